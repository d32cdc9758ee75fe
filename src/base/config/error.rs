//! Why the value of an option is not taken: Redis's own words where CONFIG SET has them.

/// Why a value was not taken. The giver's fault; nothing changed.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say what each one is")]
pub enum ValueError {
    #[error("wrong number of arguments")]
    Count,
    #[error("argument must be 'yes' or 'no'")]
    YesNo,
    #[error("argument couldn't be parsed into an integer")]
    NotInteger,
    #[error("argument must be between {min} and {max} inclusive")]
    OutOfRange { min: String, max: String },
    #[error("argument must be a memory value")]
    NotBytes,
    #[error("argument must be a time in milliseconds, or with one of the units ms, s, m, h, d")]
    NotMillis,
    #[error("argument couldn't be parsed into a number")]
    NotFloat,
    #[error("argument(s) must be one of the following: {}", .0.join(", "))]
    NotChoice(&'static [&'static str]),
    #[error("argument must be at most 255 bytes without blanks, commas and control characters")]
    NotName,
    #[error("'{0}' is neither an IP address nor the name of one")]
    Address(String),
    #[error("at least one address is needed")]
    NoAddress,
    #[error("'{0}' is not host:port")]
    Peer(String),
    #[error("Wrong number of arguments in buffer limit configuration.")]
    BufferLimitCount,
    #[error("Invalid client class specified in buffer limit configuration.")]
    BufferLimitClass,
    #[error("Error in hard, soft or soft_seconds setting in buffer limit configuration.")]
    BufferLimitNumber,
    #[error("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")]
    EventClass,
    #[error("Invalid latency-tracking-info-percentiles parameters")]
    Percentile,
    #[error("latency-tracking-info-percentiles parameters should sit between [0.0,100.0]")]
    PercentileRange,
}

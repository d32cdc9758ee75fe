//! How well a simulated network works.

/// What the network does to what is sent. Times in microseconds, chances in thousandths.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Least and most of an ordinary delay.
    pub delay_us: (u64, u64),
    /// How often a delay is a long one, and how long at most.
    pub late: (u32, u64),
    /// How often a write is cut in two.
    pub chop: u32,
    /// How often a datagram is lost.
    pub loss: u32,
}

impl Weather {
    /// Nothing is late, cut or lost.
    pub const CALM: Weather = Weather { delay_us: (40, 300), late: (0, 0), chop: 0, loss: 0 };
}

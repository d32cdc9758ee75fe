//! Load on any RESP server, measured without coordinated omission.

//! What is scarce is shared fairly: who is counted as one, and a line that serves each in turn.

mod line;
mod origin;

pub use self::{
    line::{Entry, Line, Place},
    origin::Origin,
};

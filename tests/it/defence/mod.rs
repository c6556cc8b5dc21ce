//! The pumping defence against simulated attacks among normal people, and its command.

mod attacks;
mod command;
mod cost;

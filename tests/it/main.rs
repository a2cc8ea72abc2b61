//! The one integration binary: each capability from the outside, over real HTTP.

mod simulator;

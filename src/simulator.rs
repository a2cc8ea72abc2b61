//! The WeChat platform on a laptop.

//! What answers behind the program's own routes.

mod forward;

//! Bad, odd and unlucky answers, through the real program.
//!
//! A scripted server answers the first request of a connection in some way; a client looks at what comes of it; then
//! another client asks for `/two` and must get its own answer. Two things are asserted throughout: what the client
//! sees, and whether the connection to the server is used again, because what is left on it would be somebody else's
//! answer.

#[path = "responses/arriving.rs"]
mod arriving;
#[path = "responses/early.rs"]
mod early;
#[path = "responses/interims.rs"]
mod interims;
#[path = "responses/refused.rs"]
mod refused;
#[path = "responses/reuse.rs"]
mod reuse;
#[path = "responses/stage.rs"]
mod stage;
#[path = "support/mod.rs"]
mod support;

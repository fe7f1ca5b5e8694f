//! stub
pub mod pace; pub mod records; pub mod template;

//! The server over real sockets. One binary, because linking is what such tests cost.

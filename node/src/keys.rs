//! Keys and certificates: made by `up`, kept in 0600 files, refused when others can read them.

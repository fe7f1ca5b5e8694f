//! The key directory: whose keys this user has, and whom they trust.

//! The rules, pure: no transport, no driver.

pub mod affected;
pub mod attributes;
pub mod changes;
pub mod completeness;
pub mod custom_field;
pub mod differences;
pub mod feed;
pub mod field;
pub mod filter;
pub mod fold;
pub mod image;
pub mod label;
pub mod lifecycle;
pub mod managed;
pub mod once;
pub mod order;
pub mod page_token;
pub mod refold;
pub mod relations;
pub mod version;
pub mod watched;

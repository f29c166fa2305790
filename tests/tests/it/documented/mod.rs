//! What the documents say is so: commands run as they stand there or say why not, links lead somewhere, and messages that are
//! quoted are said.

mod commands;
mod links;
mod logs;
mod pages;
mod quotes;

//! Tests of the key file.

mod damage;
mod edit;
mod interrupted;

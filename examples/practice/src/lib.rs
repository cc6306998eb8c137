//! Makes the databases that Lockgate's demo, tests and benches read: synthetic GP practices and hospitals as SQLite
//! files, with something in every field that must never leave.
//!
//! Nobody in them exists: NHS numbers are of the range that is never issued, telephone numbers of the range kept for
//! drama, postcodes of areas that do not exist. The same request makes the same bytes.
//!
//! [`gp`] and [`hospital`] invent a site from a seed, [`synthea`] imports CSV of Synthea into the same tables
//! ([`gp_tables`], [`hospital_tables`]), and [`facts`] says in plain SQL what is in a file.

pub mod calendar;
pub mod codes;
pub mod draft;
pub mod error;
pub mod facts;
pub mod gp;
pub mod gp_tables;
pub mod hospital;
pub mod hospital_tables;
pub mod nhs_number;
pub mod notes;
pub mod objections;
pub mod people;
pub mod sctid;
pub mod synthea;
pub mod words;

//! The central team's tool: checks modules, mappings and policies, and publishes them in a TUF repository.

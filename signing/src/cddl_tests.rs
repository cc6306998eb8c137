//! What is encoded, checked against `bundle.cddl` by a library that knows nothing of ours.

//! Run a user's command per record: stdin, environment, exit code, process group.

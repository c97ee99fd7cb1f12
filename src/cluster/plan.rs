//! Who is to have which shard.

//! Numbers that stand for words in several messages: kinds of resources, rules, sources of settings.

/// An enum of numbers on the wire, with its words.
macro_rules! kinds {
    ($(
        $(#[$meta:meta])*
        pub enum $name:ident { $( $(#[$variant_meta:meta])* $variant:ident = $code:literal $word:literal, )* }
    )*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(i8)]
        pub enum $name {
            $( $(#[$variant_meta])* $variant = $code, )*
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// What the number stands for.
            pub fn from_code(code: i8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The word for it, in lower case.
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }

            /// What the word stands for, in any case.
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|kind| kind.word().eq_ignore_ascii_case(word))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }
    )*};
}

kinds! {
    /// What an access rule lets somebody do.
    pub enum AclOperation {
        /// Not known.
        Unknown = 0 "unknown",
        /// In filters: whatever it is.
        Any = 1 "any",
        /// Everything.
        All = 2 "all",
        /// Read records, offsets.
        Read = 3 "read",
        /// Write records.
        Write = 4 "write",
        /// Create.
        Create = 5 "create",
        /// Delete.
        Delete = 6 "delete",
        /// Change.
        Alter = 7 "alter",
        /// See that it exists.
        Describe = 8 "describe",
        /// Act as a broker.
        ClusterAction = 9 "cluster-action",
        /// See settings.
        DescribeConfigs = 10 "describe-configs",
        /// Change settings.
        AlterConfigs = 11 "alter-configs",
        /// Write as an idempotent producer.
        IdempotentWrite = 12 "idempotent-write",
        /// Create tokens for others.
        CreateTokens = 13 "create-tokens",
        /// See the tokens of others.
        DescribeTokens = 14 "describe-tokens",
        /// Prepare transactions that somebody else decides.
        TwoPhaseCommit = 15 "two-phase-commit",
    }

    /// Whether an access rule allows or denies.
    pub enum AclPermission {
        /// Not known.
        Unknown = 0 "unknown",
        /// In filters: whatever it is.
        Any = 1 "any",
        /// Denies, and wins over rules that allow.
        Deny = 2 "deny",
        /// Allows.
        Allow = 3 "allow",
    }

    /// How the name in an access rule is meant.
    pub enum PatternType {
        /// Not known.
        Unknown = 0 "unknown",
        /// In filters: whatever it is.
        Any = 1 "any",
        /// In filters: all that apply to the name.
        Match = 2 "match",
        /// The name itself; `*` for every name.
        Literal = 3 "literal",
        /// All names that begin with it.
        Prefixed = 4 "prefixed",
    }

    /// What an access rule is about. Settings use other numbers: see [`ConfigResourceType`].
    pub enum ResourceType {
        /// Not known.
        Unknown = 0 "unknown",
        /// In filters: whatever it is.
        Any = 1 "any",
        /// A topic.
        Topic = 2 "topic",
        /// A group.
        Group = 3 "group",
        /// The cluster.
        Cluster = 4 "cluster",
        /// A transactional id.
        TransactionalId = 5 "transactional-id",
        /// A delegation token.
        DelegationToken = 6 "delegation-token",
        /// A user.
        User = 7 "user",
    }

    /// What has settings.
    pub enum ConfigResourceType {
        /// Not known.
        Unknown = 0 "unknown",
        /// A topic.
        Topic = 2 "topic",
        /// A broker, or all of them if it has no name.
        Broker = 4 "broker",
        /// What a broker logs.
        BrokerLogger = 8 "broker-logger",
        /// What clients report.
        ClientMetrics = 16 "client-metrics",
        /// A group.
        Group = 32 "group",
    }

    /// Where a setting's value comes from.
    pub enum ConfigSource {
        /// Not known.
        Unknown = 0 "unknown",
        /// Set for this topic.
        Topic = 1 "topic",
        /// Set for this broker, while it runs.
        Broker = 2 "broker",
        /// Set for all brokers, while they run.
        DefaultBroker = 3 "all-brokers",
        /// Given to the broker at its start.
        StaticBroker = 4 "static",
        /// Nobody set it.
        Default = 5 "default",
        /// Set for what this broker logs.
        BrokerLogger = 6 "broker-logger",
        /// Set for what clients report.
        ClientMetrics = 7 "client-metrics",
        /// Set for this group.
        Group = 8 "group",
    }
}

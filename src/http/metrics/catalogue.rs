//! Every metric: its name, its type, its labels and what it means. The documentation, the dashboard and the alert rules are held
//! against this table.

/// A metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it means, in a sentence.
    pub help: &'static str,
}

/// The types that we have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until the process or the shard begins anew.
    Counter,
    /// As it is now.
    Gauge,
    /// Quantiles, a sum and a count.
    Summary,
}

impl Kind {
    /// As Prometheus calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Summary => "summary",
        }
    }
}

macro_rules! catalogue {
    ($($id:ident $kind:ident $name:literal [$($label:literal),*]: $help:literal;)+) => {
        $(
            pub(super) const $id: Metric =
                Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };
        )+

        /// Every metric, in the order of the documentation and of the text.
        pub const METRICS: &[Metric] = &[$($id),+];
    };
}

catalogue! {
    PACKETS_RECEIVED Counter "gateway_packets_received" ["t", "op", "shard"]:
        "Packets received from Discord, by opcode and, of dispatches, name of the event.";
    PACKETS_SENT Counter "gateway_packets_sent" ["t", "op", "shard"]:
        "Packets sent to Discord, by opcode; t is always empty.";
    SHARDS_ALIVE Gauge "gateway_shards_alive" ["id"]:
        "1 while the shard has a session and a connection, else 0.";
    TOTAL_SHARDS Gauge "gateway_total_shards" []:
        "Shards that should be alive in this process.";
    PING Summary "gateway_ping" ["id"]:
        "Milliseconds from a heartbeat to its acknowledgement; the quantiles are of the latest ones.";

    BUILD_INFO Gauge "optic_build_info" ["version"]:
        "Always 1; the version is in the label.";
    NODE_INFO Gauge "optic_node_info" ["name", "group", "mode"]:
        "Always 1; the process's name, its group and how it comes to its shards are in the labels.";
    READY Gauge "optic_ready" []:
        "1 while /health/ready says so, else 0.";
    BROKER_STATE Gauge "optic_broker_state" ["state"]:
        "1 for the state that the broker is in: connected, disconnected or blocked; else 0.";
    SHARD_COUNT Gauge "optic_bot_shards" []:
        "Shards that the bot has over all processes.";
    SHARD_STATE Gauge "optic_shard_state" ["shard", "state"]:
        "1 for the state that the shard is in; other states are left out.";
    SHARD_GUILDS Gauge "optic_shard_guilds" ["shard"]:
        "Guilds of the shard, as far as is known.";
    RESUMES Counter "optic_resumes_total" ["shard"]:
        "Sessions resumed.";
    IDENTIFIES Counter "optic_identifies_total" ["shard"]:
        "Sessions begun.";
    DISCONNECTS Counter "optic_disconnects_total" ["shard"]:
        "Connections to Discord that ended, whoever ended them.";
    GAPS Counter "optic_gaps_total" ["reason"]:
        "Losses told by OPTIC_GAP, by reason.";
    MALFORMED Counter "optic_malformed_total" ["shard"]:
        "Connections given up because Discord sent what cannot be read.";
    PUBLISH_LATENCY Gauge "optic_publish_latency_seconds" []:
        "From the write of a recent message to its confirm.";
    UNCONFIRMED_MESSAGES Gauge "optic_unconfirmed_messages" []:
        "Messages that RabbitMQ has not confirmed yet.";
    UNCONFIRMED_BYTES Gauge "optic_unconfirmed_bytes" []:
        "Bytes of the messages that RabbitMQ has not confirmed yet.";
    CONFIRMED Counter "optic_publish_confirmed_total" []:
        "Messages that RabbitMQ confirmed.";
    REFUSED Counter "optic_publish_refused_total" []:
        "Messages that RabbitMQ refused; they are published again.";
    RETURNED Counter "optic_publish_returned_total" []:
        "Messages that no queue took.";
    ABANDONED Counter "optic_publish_abandoned_total" []:
        "Messages given up, and told by OPTIC_GAP.";
    AGAIN Counter "optic_publish_again_total" []:
        "Messages published once more.";
    UNCONVERTED Counter "optic_publish_unconverted_total" []:
        "Events published as they were received, because they cannot be converted.";
    PUBLISH_CONNECTIONS Counter "optic_publish_connections_total" []:
        "Publishing connections to RabbitMQ made, the first included.";
    COMMANDS_SENT Counter "optic_commands_sent_total" []:
        "Workers' commands written to Discord's socket.";
    COMMANDS_DELAYED Counter "optic_commands_delayed_total" []:
        "Commands of these that had to wait for Discord's limit of 120 packets a minute.";
    COMMANDS_HELD_UP Counter "optic_commands_held_up_total" []:
        "Commands that could not be passed on to their shard's queue at once.";
    COMMANDS_REJECTED Counter "optic_commands_rejected_total" ["kind"]:
        "Commands set aside, by reason.";
    SESSION_STARTS_REMAINING Gauge "optic_session_starts_remaining" []:
        "How many sessions may still be begun until the limit is reset, as Discord told last.";
    SESSION_STARTS_LIMIT Gauge "optic_session_starts_limit" []:
        "How many sessions may be begun between two resets.";
    SESSION_STARTS_RESET Gauge "optic_session_starts_reset_timestamp_seconds" []:
        "When the limit is reset, in Unix seconds.";
    MAX_CONCURRENCY Gauge "optic_max_concurrency" []:
        "How many shards may identify at a time.";
    IDENTIFIES_WAITING Gauge "optic_identifies_waiting" []:
        "Shards of this process that wait for their turn to identify.";
    QUEUE_MESSAGES Gauge "optic_queue_messages" ["queue"]:
        "Messages that wait in a queue, as RabbitMQ told last.";
    QUEUE_CONSUMERS Gauge "optic_queue_consumers" ["queue"]:
        "Consumers of a queue, as RabbitMQ told last.";
    SINGYEONG_CLIENTS Gauge "optic_singyeong_clients" []:
        "신경 clients connected to this process.";
    SINGYEONG_RESTRICTED Gauge "optic_singyeong_restricted_clients" []:
        "Clients of these that may only be looked at.";
    SINGYEONG_SET_ASIDE Counter "optic_singyeong_set_aside_total" []:
        "SENDs and BROADCASTs set aside.";
    FORWARDING_SENT Counter "optic_forwarding_sent_total" []:
        "Events sent to another 신경 server.";
    FORWARDING_SENT_AGAIN Counter "optic_forwarding_sent_again_total" []:
        "Events sent to it again after a lost connection.";
    FORWARDING_COVERED Counter "optic_forwarding_covered_total" []:
        "Events known to have arrived there.";
    FORWARDING_SET_ASIDE Counter "optic_forwarding_set_aside_total" []:
        "Events that should have gone there and were set aside.";
    FORWARDING_NO_ROUTE Counter "optic_forwarding_no_route_total" []:
        "Events that no client of the other server wanted.";
    FORWARDING_UNREADABLE Counter "optic_forwarding_unreadable_total" []:
        "Answers and commands of the other server that cannot be read.";
    FORWARDING_CONNECTIONS Counter "optic_forwarding_connections_total" []:
        "Connections made to the other server.";
    AMYBOT_PROXIED Counter "optic_amybot_proxied_total" ["source", "topic", "outcome"]:
        "amybot messages passed on by this process while it coordinates; the outcome is delivered or set_aside.";

    PROCESS_CPU Counter "process_cpu_seconds_total" []:
        "CPU time of the process.";
    PROCESS_RESIDENT Gauge "process_resident_memory_bytes" []:
        "Memory that the process holds.";
    PROCESS_START Gauge "process_start_time_seconds" []:
        "When the process began, in Unix seconds.";
}

//! No secret is ever in what is said of a configuration, however wrong it is.

use proptest::prelude::*;

use super::*;

/// The ways in which a secret stands in a variable, `@` for the secret: right, wrong, and where it does not belong.
const SHAPES: [(&str, &str); 34] = [
    ("DISCORD_TOKEN", "@"),
    ("DISCORD_TOKEN", "Bot @"),
    ("DISCORD_TOKEN", "Bearer @"),
    ("DISCORD_TOKEN", "\"@\""),
    ("DISCORD_TOKEN", "'@"),
    ("DISCORD_TOKEN", " @ "),
    ("DISCORD_TOKEN", "@\n@"),
    ("DISCORD_TOKEN", "DISCORD_TOKEN=@"),
    ("DISCORD_TOKEN", "$@"),
    ("DISCORD_TOKEN", "${@}"),
    ("DISCORD_TOKEN", "é@"),
    ("AMQP_URL", "@"),
    ("AMQP_URL", "amqp://me:@~mq"),
    ("AMQP_URL", "amqp://@:x~mq:5672/v"),
    ("AMQP_URL", "amqp://me:@/~mq"),
    ("AMQP_URL", "amqp://me:1/@~mq"),
    ("AMQP_URL", "amqp://me:#@~mq"),
    ("AMQP_URL", "amqp://me:a?@~mq"),
    ("AMQP_URL", "amqp://me:1?@~mq"),
    ("AMQP_URL", "amqp://me:@ ~mq"),
    ("AMQP_URL", "amqp://me:@"),
    ("AMQP_URL", "amqp://me:@~mq:99999"),
    ("AMQP_URL", "amqp://me:@~mq:5672v"),
    ("AMQP_URL", "amqp://me:@~mq?heartbeat=ten"),
    ("AMQP_URL", "http://me:@~mq"),
    ("AMQP_URL", "\"amqp://me:@~mq\""),
    ("SINGYEONG_AUTH", " @"),
    ("SINGYEONG_DSN", "singyeong://app:@~host:1/?encoding=x"),
    ("SINGYEONG_DSN", "redis://:@~host"),
    ("HTTP_TOKEN", "two @"),
    ("BROKER_TYPE", "amqp://me:@~mq"),
    ("SINGYEONG_ADDRESS", "singyeong://app:@~host:4567"),
    ("DISCORD_API_HOST", "https://me:@~proxy"),
    ("DISCORD_EVENTS", "A,amqp://me:@~mq"),
];

/// Shapes for the file of a secret.
const FILES: [(&str, &str); 4] = [
    ("DISCORD_TOKEN_FILE", "DISCORD_TOKEN=@"),
    ("DISCORD_TOKEN_FILE", "@\n@"),
    ("AMQP_URL_FILE", "amqp://me:@/~mq"),
    ("SINGYEONG_DSN_FILE", "@"),
];

fn filled(shape: &str, secret: &str) -> String {
    shape.replace('@', secret).replace('~', "@")
}

proptest! {
    #[test]
    fn a_secret_is_in_no_mistake_and_no_warning(
        secret in "[A-Za-z0-9]{4,20}Zq9",
        at in prop::sample::subsequence(&SHAPES[..], 1..6),
        file in prop::option::of(prop::sample::select(&FILES[..])),
    ) {
        let mut vars: Vec<(String, String)> =
            at.iter().map(|(name, shape)| ((*name).to_owned(), filled(shape, &secret))).collect();
        vars.extend(file.map(|(name, _)| (name.to_owned(), "/secret".to_owned())));
        vars.push(("FORWARDING".to_owned(), r#"{"target":{},"events":["READY"]}"#.to_owned()));
        let content = file.map(|(_, shape)| filled(shape, &secret)).unwrap_or_default();
        let said = match Config::from_vars(vars, |_| Ok(content.clone())) {
            Ok((config, warnings)) => {
                let warnings: Vec<String> = warnings.iter().map(Warning::to_string).collect();
                format!("{config:?}{warnings:?}")
            }
            Err(errors) => format!("{errors} {errors:?}"),
        };
        prop_assert!(!said.contains(&secret), "{}", said);
    }
}

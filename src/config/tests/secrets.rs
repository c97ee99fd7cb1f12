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

/// Where a file is to be named, the secret itself.
const IN_PLACE_OF_A_FILE: [(&str, &str); 12] = [
    ("DISCORD_TOKEN_FILE", "@"),
    ("DISCORD_TOKEN_FILE", "MTk4.@.x"),
    ("DISCORD_TOKEN_FILE", ".@"),
    ("AMQP_URL_FILE", "amqp://me:@~mq"),
    ("AMQP_URL_FILE", "amqp://me:a @~mq"),
    ("AMQP_URL_FILE", "/amqp://me:a @~mq"),
    ("AMQP_URL_FILE", "me:@~mq/v"),
    ("SINGYEONG_DSN_FILE", "singyeong://app:\"@~host:1"),
    ("SINGYEONG_AUTH_FILE", " @ "),
    ("HTTP_TOKEN_FILE", "/@+="),
    ("HTTP_TOKEN_FILE", "/@/x+="),
    ("HTTP_TOKEN_FILE", "a/@"),
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

    #[test]
    fn a_secret_in_the_place_of_its_file_is_not_shown(
        secret in "[A-Za-z0-9]{0,20}Zq9",
        (name, shape) in prop::sample::select(&IN_PLACE_OF_A_FILE[..]),
        is_set_too in any::<bool>(),
    ) {
        let mut vars = vec![(name.to_owned(), filled(shape, &secret))];
        vars.extend(is_set_too.then(|| (name.trim_end_matches("_FILE").to_owned(), "x".to_owned())));
        let errors = Config::from_vars(vars, |_| Err(std::io::ErrorKind::NotFound.into())).expect_err("there is no such file");
        let said = format!("{errors} {errors:?}");
        let expected = format!("{name} (not shown): ");
        prop_assert!(!said.contains(&secret) && said.contains(&expected), "{}", said);
        prop_assert!(is_set_too || said.contains("and not the secret itself"), "{}", said);
    }
}

//! What the plan says of one handler or sink, for whoever wants to see it: of what may be secret its name alone.

use serde_json::{Value, json};

use crate::config::plan::{HandlerPlan, MailPlan, RetryPlan, SinkPlan, SmtpEncryption};

pub(super) fn of_handler(plan: &HandlerPlan) -> Value {
    // Each key is named here, so that nobody forgets to judge a new one.
    let HandlerPlan {
        name,
        group: _,
        component,
        sha256,
        allow,
        keep,
        subscribe,
        publish,
        dead_letter,
        env,
        retry,
        limits,
        shards,
        log,
    } = plan;
    json!({
        "name": name,
        "kind": "handler",
        "component": component.display().to_string(),
        "sha256": sha256,
        "allow": allow.entries(),
        "keep": keep,
        "subscribe": subscribe,
        "publish": publish,
        "dead_letter": dead_letter,
        "env": env.keys().collect::<Vec<_>>(),
        "retry": of_retry(retry),
        "limits": { "memory_bytes": limits.memory, "time_ms": limits.time.as_millis() as u64, "batch": limits.batch },
        "shards": shards,
        "log": log.map(|level| level.to_string()),
    })
}

pub(super) fn of_sink(plan: &SinkPlan) -> Value {
    let SinkPlan { name, group: _, subscribe, receipts, dead_letter, mail, retry, batch, shards, timeout } =
        plan;
    let (to, has_login) = match mail {
        MailPlan::Folder(folder) => (format!("the folder {}", folder.display()), false),
        MailPlan::Smtp(smtp) => {
            let encryption = match smtp.encryption {
                SmtpEncryption::Opportunistic => "STARTTLS when it is offered",
                SmtpEncryption::StartTls => "STARTTLS",
                SmtpEncryption::Tls => "TLS",
            };
            (format!("{}:{}, {encryption}", smtp.host, smtp.port), smtp.credentials.is_some())
        }
    };
    json!({
        "name": name,
        "kind": "sink",
        "to": to,
        "has_login": has_login,
        "subscribe": subscribe,
        "publish": receipts.as_slice(),
        "dead_letter": dead_letter,
        "retry": of_retry(retry),
        "limits": { "time_ms": timeout.as_millis() as u64, "batch": batch },
        "shards": shards,
    })
}

fn of_retry(RetryPlan { attempts, backoff_min, backoff_max }: &RetryPlan) -> Value {
    json!({
        "attempts": attempts,
        "backoff_min_ms": backoff_min.as_millis() as u64,
        "backoff_max_ms": backoff_max.as_millis() as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, parse};

    #[test]
    fn of_the_environment_and_the_login_there_are_the_names_and_no_values() {
        let text = "
            name = 'shop'
            kafka.brokers = 'kafka:9092'
            [handlers.format]
            component = 'f.wasm'
            subscribe = ['readings']
            publish = ['mails']
            env = { API_KEY = 'hunter2' }
            log = 'warn'
            retry = { attempts = 'forever' }
            allow = ['wasi:cli', 'wasi:io/poll']
            [sinks.mail]
            subscribe = ['mails']
            smtp = 'smtps://ada:hunter2@localhost'
        ";
        let plan = parse(text.into(), "/shop/pipeline.toml".as_ref(), &|_| None, &Overrides::default());
        let plan = plan.unwrap_or_else(|errors| panic!("{:?}", errors.errors)).plan;
        let (handler, sink) = (of_handler(&plan.handlers[0]), of_sink(&plan.sinks[0]));
        assert_eq!((&handler["env"], &handler["log"]), (&json!(["API_KEY"]), &json!("warn")));
        assert_eq!(handler["allow"], json!(["wasi:cli", "wasi:io/poll"]));
        assert_eq!(handler["limits"], json!({ "memory_bytes": 64 << 20, "time_ms": 1000, "batch": 1000 }));
        assert_eq!(handler["retry"]["attempts"], Value::Null);
        assert_eq!((&sink["to"], &sink["has_login"]), (&json!("localhost:465, TLS"), &json!(true)));
        assert!(!format!("{handler}{sink}").contains("hunter2"));
    }
}

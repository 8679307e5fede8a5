//! What the environment says of the export of traces, by the names that OpenTelemetry gives its variables.
//!
//! All but the headers, which the exporter reads itself, the sampler, and what is said of the resource.
//! Source: <https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use url::Url;

const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Settings {
    /// Where to.
    pub(super) endpoint: Url,
    /// For one request to the collector.
    pub(super) timeout: Duration,
    /// A CA's certificate in PEM, to trust besides the system's.
    pub(super) certificate: Option<PathBuf>,
    /// Of the service, if the environment says.
    pub(super) service: Option<String>,
    /// Spans that wait to be sent, at most.
    pub(super) queue: usize,
    /// Spans of one request, at most.
    pub(super) batch: usize,
    /// How long the first of them waits for others.
    pub(super) delay: Duration,
}

/// None if traces are off, which they are unless an endpoint is named. An error says what can't be followed, and
/// never what a variable holds.
pub(super) fn read(env: &impl Fn(&str) -> Option<String>) -> Result<Option<Settings>, String> {
    // The standard takes an empty one for one that is not set.
    let env = |name: &str| env(name).map(|value| value.trim().to_string()).filter(|value| !value.is_empty());
    // That of traces goes before that of everything.
    let of_otlp = |name: &str| {
        let names = [format!("OTEL_EXPORTER_OTLP_TRACES_{name}"), format!("OTEL_EXPORTER_OTLP_{name}")];
        names.into_iter().find_map(|name| env(&name).map(|value| (name, value)))
    };
    let is = |name: &str, value: &str| env(name).is_some_and(|is| is.eq_ignore_ascii_case(value));
    let Some((name, endpoint)) = of_otlp("ENDPOINT") else { return Ok(None) };
    if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
        return Ok(None);
    }
    let mut endpoint = Url::parse(&endpoint).map_err(|error| format!("{name} is no URL: {error}"))?;
    if !["http", "https"].contains(&endpoint.scheme()) {
        return Err(format!("{name} is no URL of http or https"));
    }
    if !endpoint.username().is_empty() || endpoint.password().is_some() {
        return Err(format!("{name} has credentials: those belong in OTEL_EXPORTER_OTLP_HEADERS"));
    }
    if name == "OTEL_EXPORTER_OTLP_ENDPOINT" {
        let path = format!("{}/v1/traces", endpoint.path().trim_end_matches('/'));
        endpoint.set_path(&path);
    }
    if let Some((name, protocol)) = of_otlp("PROTOCOL")
        && protocol != "http/protobuf"
    {
        return Err(format!("{name} must be http/protobuf, the one protocol that is spoken here"));
    }
    if let Some(sampler) = env("OTEL_TRACES_SAMPLER") {
        if !SAMPLERS.contains(&sampler.as_str()) {
            return Err(format!("OTEL_TRACES_SAMPLER must be one of {}", SAMPLERS.join(", ")));
        }
        let ratio = env("OTEL_TRACES_SAMPLER_ARG").and_then(|ratio| ratio.parse::<f64>().ok());
        if sampler.ends_with("traceidratio") && !ratio.is_some_and(|ratio| (0.0..=1.0).contains(&ratio)) {
            return Err("OTEL_TRACES_SAMPLER_ARG must be a ratio between 0 and 1".into());
        }
    }
    let timeout = of_otlp("TIMEOUT").map(|(name, value)| number(&name, &value)).transpose()?;
    let of_queue = |name: &str, default: usize| match env(name) {
        Some(value) => number(name, &value).map(|number: usize| number.clamp(1, 1_000_000)),
        None => Ok(default),
    };
    let queue = of_queue("OTEL_BSP_MAX_QUEUE_SIZE", 2048)?;
    Ok(Some(Settings {
        endpoint,
        timeout: Duration::from_millis(timeout.unwrap_or(10_000)),
        certificate: of_otlp("CERTIFICATE").map(|(_, file)| file.into()),
        service: env("OTEL_SERVICE_NAME"),
        queue,
        batch: of_queue("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)?.min(queue),
        delay: Duration::from_millis(of_queue("OTEL_BSP_SCHEDULE_DELAY", 5000)? as u64),
    }))
}

impl Settings {
    /// The endpoint for people: what follows its path may be a secret.
    pub(super) fn place(&self) -> String {
        format!("{}{}", self.endpoint.origin().ascii_serialization(), self.endpoint.path())
    }
}

fn number<N: FromStr>(name: &str, value: &str) -> Result<N, String> {
    value.parse().map_err(|_| format!("{name} must be a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_of(set: &[(&str, &str)]) -> Result<Option<Settings>, String> {
        read(&|name: &str| set.iter().find(|(of, _)| *of == name).map(|(_, value)| (*value).into()))
    }

    const HERE: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");

    #[test]
    fn traces_are_off_unless_an_endpoint_is_named() {
        for off in [
            &[][..],
            &[("OTEL_SERVICE_NAME", "s")],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")],
            &[HERE, ("OTEL_SDK_DISABLED", "true")],
            &[HERE, ("OTEL_TRACES_EXPORTER", "none")],
        ] {
            assert_eq!(read_of(off), Ok(None), "{off:?}");
        }
        let settings = read_of(&[HERE]).unwrap().unwrap();
        let (timeout, delay) = (Duration::from_secs(10), Duration::from_secs(5));
        let endpoint = Url::parse("http://127.0.0.1:4318/v1/traces").unwrap();
        let (queue, batch) = (2048, 512);
        let defaults = Settings { endpoint, timeout, certificate: None, service: None, queue, batch, delay };
        assert_eq!(settings, defaults);
    }

    #[test]
    fn the_variables_of_traces_go_before_those_of_everything() {
        let both = [
            HERE,
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://collector.example.com/in?token=t0ps3cret"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1000"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "2000"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
        ];
        let settings = read_of(&both).unwrap().unwrap();
        assert_eq!(settings.endpoint.as_str(), "https://collector.example.com/in?token=t0ps3cret");
        assert_eq!(settings.place(), "https://collector.example.com/in");
        let below = read_of(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/otlp/")]).unwrap().unwrap();
        assert_eq!(below.place(), "http://c:4318/otlp/v1/traces");
        assert_eq!((settings.timeout, settings.queue, settings.batch), (Duration::from_secs(2), 100, 100));
    }

    #[test]
    fn what_can_not_be_followed_is_told_without_what_it_holds() {
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "t0ps3cret"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://t0ps3cret/"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://ada:t0ps3cret@collector"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "t0ps3cret"),
            ("OTEL_TRACES_SAMPLER", "t0ps3cret"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "t0ps3cret"),
            ("OTEL_BSP_SCHEDULE_DELAY", "t0ps3cret"),
        ] {
            let mut set = vec![(name, value)];
            set.extend((name != HERE.0).then_some(HERE));
            let error = read_of(&set).unwrap_err();
            assert!(error.contains(name) && !error.contains("t0ps3cret"), "{error}");
        }
        let no_ratio = read_of(&[HERE, ("OTEL_TRACES_SAMPLER", "traceidratio")]).unwrap_err();
        assert!(no_ratio.contains("OTEL_TRACES_SAMPLER_ARG"), "{no_ratio}");
    }
}

//! What is deployed by, held against the code: manifests, compose file, unit and image agree with each other and name no variable
//! that Optic does not read. `kubectl` and `systemd` are not needed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use optic::config::{VARIABLES, env_file};
use serde_json::Value;

const BASE: &str = "deploy/kubernetes/base";
const EXAMPLE: &str = "deploy/kubernetes/example";

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The documents of a YAML file.
fn yaml(name: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&read(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The one document of this kind.
fn manifest(name: &str) -> Value {
    let mut documents = yaml(name);
    assert_eq!(documents.len(), 1, "{name}");
    documents.remove(0)
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().map(|text| text.as_str().expect("a text"))
}

/// Whether Optic reads it: a variable, or the file of a secret.
fn is_read(name: &str) -> bool {
    VARIABLES
        .iter()
        .any(|variable| variable.name == name || variable.secret && name.strip_suffix("_FILE") == Some(variable.name))
}

fn optic() -> Value {
    let set = manifest(&format!("{BASE}/statefulset.yaml"));
    set["spec"]["template"]["spec"]["containers"][0].clone()
}

#[test]
fn every_variable_that_is_set_is_one_that_optic_reads() {
    let mut set: Vec<(String, String)> = Vec::new();
    let compose = manifest("docker-compose.yml");
    for (service, settings) in compose["services"].as_object().expect("services") {
        if service.contains("optic") || service == "worker-demo" {
            let environment = settings["environment"].as_object().expect("a map").keys();
            set.extend(environment.map(|name| (format!("docker-compose.yml, {service}"), name.clone())));
        }
    }
    let container = optic();
    let named = container["env"].as_array().expect("a list").iter().map(|variable| &variable["name"]);
    set.extend(named.map(|name| ("statefulset.yaml".to_owned(), name.as_str().expect("a text").to_owned())));
    for file in [format!("{BASE}/optic.env"), "deploy/systemd/optic.env".to_owned(), ".env.example".to_owned()] {
        // Also what stands there to be taken in.
        let all: Vec<String> = read(&file)
            .lines()
            .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line).to_owned())
            .collect();
        let pairs = env_file::parse(&all.join("\n")).unwrap_or_else(|error| panic!("{file}: {error}"));
        set.extend(pairs.into_iter().map(|(name, _)| (file.clone(), name)));
    }
    let unit = read("deploy/systemd/optic.service");
    let of_unit = unit.lines().filter_map(|line| line.strip_prefix("Environment=")?.split_once('='));
    set.extend(of_unit.map(|(name, _)| ("optic.service".to_owned(), name.to_owned())));
    let image = read("Dockerfile");
    let of_image = image.lines().filter_map(|line| line.strip_prefix("ENV ")?.split_once('='));
    set.extend(of_image.map(|(name, _)| ("Dockerfile".to_owned(), name.to_owned())));

    for (place, name) in &set {
        assert!(is_read(name), "{place} sets {name}, which Optic does not read");
    }
    for place in
        ["docker-compose.yml, optic", "statefulset.yaml", "deploy/systemd/optic.env", "optic.service", "Dockerfile"]
    {
        assert!(set.iter().any(|(found, _)| found == place), "nothing was found in {place}");
    }
}

#[test]
fn ports_and_paths_agree() {
    let container = optic();
    let port = &container["ports"][0];
    assert_eq!((port["name"].as_str(), port["containerPort"].as_u64()), (Some("http"), Some(8080)));
    let probes = [("startupProbe", "live"), ("livenessProbe", "live"), ("readinessProbe", "ready")];
    for (probe, what) in probes {
        let asked = &container[probe]["httpGet"];
        assert_eq!(asked["path"], format!("/health/{what}"), "{probe}");
        assert_eq!(asked["port"], "http", "{probe}");
    }
    let template = &manifest(&format!("{BASE}/statefulset.yaml"))["spec"]["template"];
    let annotations = &template["metadata"]["annotations"];
    assert_eq!(
        (&annotations["prometheus.io/port"], &annotations["prometheus.io/path"]),
        (&"8080".into(), &"/metrics".into())
    );
    for service in yaml(&format!("{BASE}/service.yaml")) {
        assert_eq!(service["spec"]["ports"][0]["targetPort"], "http");
        assert_eq!(service["spec"]["ports"][0]["port"], 8080);
    }
    assert_eq!(manifest(&format!("{BASE}/networkpolicy.yaml"))["spec"]["ingress"][0]["ports"][0]["port"], 8080);

    let everywhere = "0.0.0.0:8080";
    assert!(read("Dockerfile").contains(&format!("ENV HTTP_ADDRESS={everywhere}\n")));
    assert!(read(&format!("{BASE}/optic.env")).contains(&format!("HTTP_ADDRESS={everywhere}\n")));
    assert_eq!(manifest("docker-compose.yml")["services"]["optic"]["environment"]["HTTP_ADDRESS"], everywhere);
}

#[test]
fn selectors_find_the_pods() {
    let set = manifest(&format!("{BASE}/statefulset.yaml"));
    let kustomization = manifest(&format!("{BASE}/kustomization.yaml"));
    // Kustomize puts these on the pods, and into the selectors of the set and of the services, but of nothing else.
    let labels = &kustomization["labels"][0];
    assert_eq!((&labels["includeSelectors"], &labels["includeTemplates"]), (&true.into(), &true.into()));
    let wanted = &labels["pairs"];
    assert_eq!(
        &set["spec"]["template"]["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
        wanted
    );
    assert_eq!(&manifest(&format!("{BASE}/poddisruptionbudget.yaml"))["spec"]["selector"]["matchLabels"], wanted);
    assert_eq!(&manifest(&format!("{BASE}/networkpolicy.yaml"))["spec"]["podSelector"]["matchLabels"], wanted);
    let headless = &yaml(&format!("{BASE}/service.yaml"))[1];
    assert_eq!(set["spec"]["serviceName"], headless["metadata"]["name"]);
}

#[test]
fn each_kustomization_lists_the_files_that_there_are() {
    for folder in [BASE, EXAMPLE] {
        let kustomization = manifest(&format!("{folder}/kustomization.yaml"));
        let listed: BTreeSet<&str> = texts(&kustomization["resources"]).collect();
        let files =
            std::fs::read_dir(path(folder)).expect("a folder").map(|entry| entry.expect("readable").file_name());
        let names: Vec<String> = files.map(|name| name.into_string().expect("text")).collect();
        let there = names.iter().filter(|name| name.ends_with(".yaml") && *name != "kustomization.yaml");
        let there: BTreeSet<&str> = there.map(String::as_str).collect();
        let listed_here: BTreeSet<&str> = listed.iter().copied().filter(|name| !name.starts_with("..")).collect();
        assert_eq!(listed_here, there, "{folder}");
        for other in listed.difference(&listed_here) {
            assert!(path(folder).join(other).join("kustomization.yaml").exists(), "{folder}: {other}");
        }
        for resource in there {
            for document in yaml(&format!("{folder}/{resource}")) {
                assert!(document["kind"].is_string() && document["apiVersion"].is_string(), "{resource}: {document}");
                let named = &document["metadata"]["namespace"];
                assert!(named.is_null(), "{resource} names the namespace {named}, which is the overlay's to say");
            }
        }
    }
    // The example makes what the base mounts.
    let made = manifest(&format!("{EXAMPLE}/kustomization.yaml"))["secretGenerator"][0].clone();
    let literals = texts(&made["literals"]).map(|pair| pair.split('=').next().expect("a name"));
    let keys: BTreeSet<&str> = texts(&made["files"]).chain(literals).collect();
    let container = optic();
    let mounted = container["env"].as_array().expect("a list").iter().filter_map(|variable| variable["value"].as_str());
    let mounted: BTreeSet<&str> = mounted.filter_map(|value| value.strip_prefix("/run/secrets/optic/")).collect();
    assert_eq!(keys, mounted);
    assert_eq!(container["volumeMounts"][0]["mountPath"], "/run/secrets/optic");
}

#[test]
fn nothing_runs_as_root_or_writes_a_file() {
    let image = read("Dockerfile");
    let user = image.lines().find_map(|line| line.strip_prefix("USER ")).expect("a user");
    let pod = &manifest(&format!("{BASE}/statefulset.yaml"))["spec"]["template"]["spec"];
    let id = pod["securityContext"]["runAsUser"].as_u64().expect("a number");
    assert_eq!(user, format!("{id}:{id}"));
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    let context = &optic()["securityContext"];
    assert_eq!(
        (&context["readOnlyRootFilesystem"], &context["allowPrivilegeEscalation"]),
        (&true.into(), &false.into())
    );
    assert_eq!(context["capabilities"]["drop"][0], "ALL");
    let compose = manifest("docker-compose.yml");
    for service in ["optic", "simulator", "optic-demo", "worker-demo"] {
        let service = &compose["services"][service];
        assert_eq!((&service["read_only"], &service["cap_drop"][0]), (&true.into(), &"ALL".into()));
    }
}

#[test]
fn what_only_a_change_mends_is_not_started_again() {
    let unit = read("deploy/systemd/optic.service");
    let never = unit.lines().find_map(|line| line.strip_prefix("RestartPreventExitStatus=")).expect("a line");
    let never: BTreeSet<&str> = never.split(' ').collect();
    assert_eq!(never, BTreeSet::from(["2", "69", "78"]));
    for code in never {
        assert!(read("spec/configuration.md").contains(&format!("| {code} | ")), "no exit code {code}");
    }
    assert!(unit.contains("LoadCredential=discord-token:") && unit.contains("DISCORD_TOKEN_FILE=%d/discord-token"));
    assert!(unit.contains("LoadCredential=amqp-url:") && unit.contains("AMQP_URL_FILE=%d/amqp-url"));
}

#[test]
fn the_image_is_built_from_all_that_the_build_needs() {
    let kept: Vec<String> =
        read(".dockerignore").lines().filter_map(|line| line.strip_prefix('!')).map(str::to_owned).collect();
    // What Cargo.toml names must be there, or cargo does not even begin.
    let manifest: toml::Table = read("Cargo.toml").parse().expect("TOML");
    for kind in ["example", "bench"] {
        for target in manifest[kind].as_array().expect("targets") {
            let name = target["name"].as_str().expect("a name");
            let place =
                target.get("path").and_then(toml::Value::as_str).map_or(format!("benches/{name}.rs"), str::to_owned);
            assert!(path(&place).exists(), "{place}");
            assert!(kept.iter().any(|kept| place.starts_with(&format!("{kept}/")) && kept != "examples"), "{place}");
        }
    }
    for folder in ["src", "web", "Cargo.toml", "Cargo.lock"] {
        assert!(kept.iter().any(|kept| kept == folder), "{folder}");
    }
}

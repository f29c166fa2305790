//! The manifests of `k8s/`, as they are rendered: that the programs in them understand their command lines, variables
//! and configuration, and that times, sizes and versions fit. Who reaches what in them is in `manifests_shape.rs`.

use ncps_runtime::config::Field;
use ncps_runtime::lifecycle::LAST_MOMENT;
use ncps_tests::manifest::{self, Manifest, Pod};

use crate::understood::{is_understood, problems};

/// A variable that is no option.
const SYSTEM: &str = "RUNTIME_DIRECTORY";

/// Each pod with the manifest that it is in.
fn pods() -> Vec<(Manifest, Pod)> {
    let all = Manifest::all().into_iter();
    all.flat_map(|manifest| manifest.pods().into_iter().map(move |pod| (manifest.clone(), pod))).collect()
}

/// Its command line, with its file of configuration where it can be read.
fn command(manifest: &Manifest, pod: &Pod, dir: &tempfile::TempDir) -> Vec<String> {
    let file = dir.path().join("config.yaml");
    std::fs::write(&file, manifest.config(pod)).expect("room");
    let mounted = "/etc/ncps/config/config.yaml";
    let command = pod.command();
    assert!(command.iter().any(|word| word.ends_with(mounted)), "{command:?}");
    command.iter().map(|word| word.replace(mounted, &file.to_string_lossy())).collect()
}

#[test]
fn every_command_line_is_understood() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let pods = pods();
    for (manifest, pod) in &pods {
        is_understood(&command(manifest, pod, &dir), &variables(&pod.env()));
    }
    for program in ["ncps", "ncps-control", "ncps-edge"] {
        assert!(pods.iter().any(|(_, pod)| pod.command()[0] == program), "no {program}");
    }
}

#[test]
fn a_flag_by_a_former_name_is_noticed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for (manifest, pod) in pods() {
        let mut command = command(&manifest, &pod, &dir);
        let last = command.last_mut().expect("a flag");
        *last = last.replacen("--", "--former-", 1);
        let said = problems(&command, &variables(&pod.env())).expect_err("nobody knows it");
        assert!(said.contains("--former-"), "{command:?}: {said}");
    }
}

fn variables(env: &[(String, String)]) -> Vec<(&str, &str)> {
    env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

#[test]
fn every_variable_is_one_that_somebody_reads() {
    use ncps_control::config::CONTROL;
    use ncps_edge::config::{EDGE, REMOTE};
    use ncps_runtime::fields::{DATA, RUNTIME};
    let known: Vec<&Field> = [CONTROL, EDGE, REMOTE, DATA, RUNTIME].into_iter().flatten().collect();
    for (manifest, pod) in pods() {
        let args = pod.container()["args"].to_string();
        for (name, _) in pod.env() {
            let expanded = args.contains(&format!("$({name})"));
            let option = known.iter().any(|field| field.env == name);
            assert!(expanded || option || name == SYSTEM, "{name} of {} in {}", pod.name, manifest.name);
        }
    }
}

/// The last of these flags in a command line, else what the file says.
fn setting(manifest: &Manifest, pod: &Pod, flag: &str, key: [&str; 2]) -> String {
    let command = pod.command();
    let given = command.iter().rev().find_map(|word| word.strip_prefix(&format!("--{flag}=")));
    if let Some(given) = given {
        return given.to_owned();
    }
    let file: serde_json::Value = serde_saphyr::from_str(manifest.config(pod)).expect("YAML");
    file[key[0]][key[1]].as_str().unwrap_or_else(|| panic!("{flag} of {}", pod.name)).to_owned()
}

fn seconds(text: &str) -> u64 {
    let (number, unit) = text.split_at(text.len() - 1);
    let number: u64 = number.parse().expect("a number");
    number * if unit == "m" { 60 } else { 1 }
}

#[test]
fn a_pod_may_take_longer_to_stop_than_its_program() {
    for (manifest, pod) in pods() {
        let delay = seconds(&setting(&manifest, &pod, "shutdown-delay", ["shutdown", "delay"]));
        let grace = seconds(&setting(&manifest, &pod, "shutdown-grace", ["shutdown", "grace"]));
        let given = pod.spec["terminationGracePeriodSeconds"].as_u64().expect("a number");
        assert!(given > delay + grace + LAST_MOMENT.as_secs(), "{} of {}", pod.name, manifest.name);
        // Who balances load notices within two probes and what these may take.
        let probe = &pod.container()["readinessProbe"];
        let number = |name: &str| probe[name].as_u64().expect("a number");
        let notices = (number("periodSeconds") + number("timeoutSeconds")) * number("failureThreshold");
        let balanced = pod.labels["app.kubernetes.io/component"] == "edge";
        assert!(!balanced || delay >= notices, "{} of {}", pod.name, manifest.name);
    }
}

/// Sizes of Kubernetes and of ncps are both GiB here.
fn gib(text: &str) -> u64 {
    text.trim_end_matches('i').strip_suffix('G').and_then(|n| n.parse().ok()).expect("so many G or Gi")
}

#[test]
fn what_an_edge_may_write_fits_its_ephemeral_disk() {
    let mut looked_at = 0;
    for (manifest, pod) in pods() {
        let volumes = pod.spec["volumes"].as_array().expect("volumes");
        let Some(data) = volumes.iter().find(|volume| volume["name"] == "data") else { continue };
        let control = manifest.pods().into_iter().find(|pod| pod.name == "ncps-control").expect("a fleet");
        let spool = gib(&setting(&manifest, &control, "max-spool-size", ["", ""]));
        let store = gib(&setting(&manifest, &pod, "edge-max-size", ["", ""]));
        let objects = 2;
        let disk = gib(data["emptyDir"]["sizeLimit"].as_str().expect("a limit"));
        let requests = &pod.container()["resources"]["requests"];
        let requested = gib(requests["ephemeral-storage"].as_str().expect("a request"));
        assert!(store + spool + objects <= disk && disk < requested, "{} of {}", pod.name, manifest.name);
        looked_at += 1;
    }
    assert!(looked_at > 0);
}

#[test]
fn the_images_are_of_this_version() {
    for (manifest, pod) in pods() {
        let image = pod.container()["image"].as_str().expect("an image");
        let tag = image.rsplit_once(':').expect("a tag").1;
        assert_eq!(tag, env!("CARGO_PKG_VERSION"), "{} of {}", pod.name, manifest.name);
    }
    let chart = manifest::objects(&manifest::folder().join("helm/ncps/Chart.yaml"));
    assert_eq!(chart[0]["appVersion"], env!("CARGO_PKG_VERSION"));
}

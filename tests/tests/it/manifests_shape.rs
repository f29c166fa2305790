//! The manifests of `k8s/`, as they are rendered: that names in them lead somewhere, that pods may do nothing that they
//! need not, and who reaches what by the network policies.

use ncps_tests::manifest::{self, Labels, Manifest, Pod, selected};
use serde_json::{Value, json};

/// The Secrets that an installation has to have.
fn secrets() -> Vec<Value> {
    manifest::objects(&manifest::folder().join("example/secrets.yaml"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn name(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no name"))
}

#[test]
fn whatever_is_selected_is_there() {
    for manifest in Manifest::all() {
        let pods = manifest.pods();
        let some = |selector: &Value| pods.iter().any(|pod| selected(selector, &pod.labels));
        for service in manifest.of("Service") {
            assert!(some(&service["spec"]["selector"]), "{}: {service}", manifest.name);
        }
        for budget in manifest.of("PodDisruptionBudget") {
            assert!(some(&budget["spec"]["selector"]["matchLabels"]), "{}: {budget}", manifest.name);
        }
        for policy in manifest.of("NetworkPolicy") {
            assert!(some(&policy["spec"]["podSelector"]["matchLabels"]), "{}: {policy}", manifest.name);
        }
        for monitor in manifest.of("ServiceMonitor") {
            let scraped = |service: &&Value| {
                let labels = manifest::labels(&service["metadata"]["labels"]);
                selected(&monitor["spec"]["selector"]["matchLabels"], &labels)
            };
            // Control and each edge, or the one process, once.
            let each = pods.len().min(2);
            assert_eq!(manifest.of("Service").filter(scraped).count(), each, "{}", manifest.name);
        }
    }
}

#[test]
fn whatever_is_named_is_there() {
    let secrets = secrets();
    for manifest in Manifest::all() {
        for stateful in manifest.of("StatefulSet") {
            assert!(manifest.has("Service", name(&stateful["spec"]["serviceName"])), "{stateful}");
        }
        for pod in manifest.pods() {
            assert!(manifest.has("ServiceAccount", name(&pod.spec["serviceAccountName"])));
            for volume in list(&pod.spec["volumes"]) {
                names_what_is_there(&manifest, &secrets, volume);
            }
            let container = pod.container();
            let has_port = |port: &Value| list(&container["ports"]).iter().any(|p| &p["name"] == port);
            for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
                assert!(has_port(&container[probe]["httpGet"]["port"]), "{probe} of {}", pod.name);
            }
            let selects = |s: &&Value| selected(&s["spec"]["selector"], &pod.labels);
            for service in manifest.of("Service").filter(selects) {
                let ports = list(&service["spec"]["ports"]);
                assert!(ports.iter().all(|port| has_port(&port["targetPort"])), "{service}");
            }
        }
    }
}

fn names_what_is_there(manifest: &Manifest, secrets: &[Value], volume: &Value) {
    if let Some(map) = volume["configMap"]["name"].as_str() {
        assert!(manifest.has("ConfigMap", map), "{map}");
    }
    let Some(named) = volume["secret"]["secretName"].as_str() else { return };
    let secret = secrets.iter().find(|secret| secret["metadata"]["name"] == named);
    let secret = secret.unwrap_or_else(|| panic!("{named} is not in example/secrets.yaml"));
    for item in list(&volume["secret"]["items"]) {
        assert!(secret["stringData"][name(&item["key"])].is_string(), "{item} of {named}");
    }
}

/// Files that command lines name lie in what is mounted.
#[test]
fn whatever_file_a_program_reads_is_mounted() {
    let secrets = secrets();
    for manifest in Manifest::all() {
        for pod in manifest.pods() {
            let mounts = list(&pod.container()["volumeMounts"]);
            let read = pod.command().into_iter().filter_map(|word| {
                word.split_once('=').map(|(_, value)| value.to_owned()).filter(|value| value.starts_with('/'))
            });
            for file in read {
                let mounted = mounts.iter().any(|m| file.starts_with(&format!("{}/", name(&m["mountPath"]))));
                assert!(mounted, "{file} of {} in {}", pod.name, manifest.name);
            }
            let token = pod.command().iter().find_map(|word| Some(word.split_once("/token/")?.1.to_owned()));
            let holds = |token: &String| secrets.iter().any(|s| s["stringData"][token].is_string());
            assert!(token.as_ref().is_none_or(holds), "{token:?} is in no Secret of the example");
        }
    }
}

#[test]
fn pods_may_do_nothing_that_they_need_not() {
    for manifest in Manifest::all() {
        for Pod { name, spec, .. } in manifest.pods() {
            let pod = &spec["securityContext"];
            assert_eq!((&pod["runAsNonRoot"], &pod["runAsUser"]), (&json!(true), &json!(1000)), "{name}");
            assert_eq!(pod["fsGroup"], 1000);
            assert_eq!(pod["seccompProfile"]["type"], "RuntimeDefault");
            assert_eq!(spec["automountServiceAccountToken"], false);
            for container in list(&spec["containers"]) {
                let context = &container["securityContext"];
                assert_eq!(context["readOnlyRootFilesystem"], true);
                assert_eq!(context["allowPrivilegeEscalation"], false);
                assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}));
            }
            for host in ["hostNetwork", "hostPID", "hostIPC"] {
                assert!(spec[host].is_null(), "{name} has {host}");
            }
            let volumes = list(&spec["volumes"]);
            assert!(volumes.iter().all(|volume| volume["hostPath"].is_null()), "{name}");
        }
    }
}

/// Who comes: a pod of the same namespace with these labels, or anything of another namespace.
enum From<'a> {
    Pod(&'a Labels),
    Namespace(&'a str),
}

/// Whether a port of pods with these labels can be reached, as network policies have it.
fn reaches(manifest: &Manifest, from: &From<'_>, to: &Labels, port: &str) -> bool {
    let on = |p: &&Value| selected(&p["spec"]["podSelector"]["matchLabels"], to);
    let mut policies = manifest.of("NetworkPolicy").filter(on).peekable();
    policies.peek().is_none()
        || policies.flat_map(|policy| list(&policy["spec"]["ingress"])).any(|rule| {
            list(&rule["ports"]).iter().any(|open| open["port"] == port)
                && (rule["from"].is_null() || list(&rule["from"]).iter().any(|peer| is_meant(peer, from)))
        })
}

fn is_meant(peer: &Value, from: &From<'_>) -> bool {
    match from {
        From::Pod(labels) => {
            let pods = &peer["podSelector"]["matchLabels"];
            pods.is_object() && selected(pods, labels)
        }
        From::Namespace(name) => {
            let meant = &peer["namespaceSelector"]["matchLabels"];
            let labels = Labels::from([("kubernetes.io/metadata.name".to_owned(), (*name).to_owned())]);
            meant.is_object() && selected(meant, &labels)
        }
    }
}

#[test]
fn only_edges_and_administrators_reach_control() {
    let mut fleets = 0;
    for manifest in Manifest::all() {
        let pods = manifest.pods();
        let other = Labels::from([("app".to_owned(), "other".to_owned())]);
        let reaches = |from: &From<'_>, to: &Pod, port| reaches(&manifest, from, &to.labels, port);
        for edge in pods.iter().filter(|pod| pod.name != "ncps-control") {
            assert!(reaches(&From::Namespace("builds"), edge, "http"), "{}", manifest.name);
            assert!(reaches(&From::Pod(&other), edge, "http"));
            assert!(!reaches(&From::Namespace("builds"), edge, "grpc"));
        }
        let Some(control) = pods.iter().find(|pod| pod.name == "ncps-control") else { continue };
        let admin = if manifest.name.contains("example") { "platform" } else { "ncps-admin" };
        for (from, grpc, http) in [
            (From::Namespace(admin), true, true),
            (From::Namespace("monitoring"), false, true),
            (From::Namespace("builds"), false, false),
            (From::Pod(&other), false, false),
        ] {
            let open = ["grpc", "http"].map(|port| reaches(&from, control, port));
            assert_eq!(open, [grpc, http], "{}", manifest.name);
        }
        for edge in pods.iter().filter(|pod| pod.name != "ncps-control") {
            assert!(reaches(&From::Pod(&edge.labels), control, "grpc"));
            assert!(!reaches(&From::Pod(&edge.labels), control, "http"));
        }
        fleets += 1;
    }
    assert!(fleets > 0);
}

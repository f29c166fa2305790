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

/// How a pod is probed. A request needs a free place at the program, a connection none: where all places are busy, the pod
/// is not ready, but lives.
const PROBES: [(&str, &str); 3] =
    [("startupProbe", "httpGet"), ("readinessProbe", "httpGet"), ("livenessProbe", "tcpSocket")];

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
fn pods_are_probed_in_one_way_each() {
    for manifest in Manifest::all() {
        for pod in manifest.pods() {
            let container = pod.container();
            for (probe, how) in PROBES {
                let ways = ["httpGet", "tcpSocket", "grpc", "exec"].into_iter();
                let ways: Vec<_> = ways.filter(|way| !container[probe][way].is_null()).collect();
                assert_eq!(ways, [how], "{probe} of {} in {}", pod.name, manifest.name);
            }
            assert_eq!(container["startupProbe"]["httpGet"]["path"], "/healthz");
            assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/readyz");
        }
    }
}

/// Those whose pods a drain evicts one by one: a DaemonSet's stay, and of a pod that is alone a budget could only forbid
/// the drain.
#[test]
fn each_kind_of_edge_that_is_drained_has_a_budget_of_its_own() {
    for manifest in Manifest::all() {
        let pods = manifest.pods();
        let kinds = ["Deployment", "StatefulSet"].into_iter().flat_map(|kind| manifest.of(kind));
        let edges = kinds.map(|workload| name(&workload["metadata"]["name"]));
        let mut edges: Vec<_> = edges.filter(|name| ["ncps-edge", "ncps-keep"].contains(name)).collect();
        edges.sort_unstable();
        let mut selects = Vec::new();
        for budget in manifest.of("PodDisruptionBudget") {
            let selector = &budget["spec"]["selector"]["matchLabels"];
            let meant: Vec<_> = pods.iter().filter(|pod| selected(selector, &pod.labels)).collect();
            let [pod] = meant[..] else { panic!("{}: {budget} selects {}", manifest.name, meant.len()) };
            assert_eq!(pod.name, name(&budget["metadata"]["name"]), "{}", manifest.name);
            assert_eq!(budget["spec"]["maxUnavailable"], 1, "{budget}");
            assert_eq!(budget["spec"]["unhealthyPodEvictionPolicy"], "AlwaysAllow", "{budget}");
            selects.push(name(&budget["metadata"]["name"]));
        }
        selects.sort_unstable();
        assert_eq!(selects, edges, "{}", manifest.name);
    }
}

/// Two edges of one node would want its disk twice, and a node without an edge has clients that reach nobody.
#[test]
fn an_edge_on_every_node_is_there_once() {
    let mut looked_at = 0;
    for manifest in Manifest::all() {
        for set in manifest.of("DaemonSet") {
            let update = &set["spec"]["updateStrategy"]["rollingUpdate"];
            assert_eq!(update, &json!({"maxSurge": 0, "maxUnavailable": 1}), "{}", manifest.name);
            let tolerations = list(&set["spec"]["template"]["spec"]["tolerations"]);
            let own = manifest.name.contains("everything");
            assert!(own || tolerations == [json!({"operator": "Exists"})], "{}", manifest.name);
            looked_at += 1;
        }
    }
    assert!(looked_at > 1);
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
            for (probe, how) in PROBES {
                assert!(has_port(&container[probe][how]["port"]), "{probe} of {}", pod.name);
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

/// Pods of others may be in the namespace: what they may do is not ours to say.
#[test]
fn policies_are_about_our_pods_alone_and_about_all_of_them() {
    let other = Labels::from([("app.kubernetes.io/name".to_owned(), "other".to_owned())]);
    for manifest in Manifest::all() {
        let policies: Vec<_> = manifest.of("NetworkPolicy").map(|policy| &policy["spec"]).collect();
        let selects = |spec: &Value, labels: &Labels| selected(&spec["podSelector"]["matchLabels"], labels);
        for spec in &policies {
            assert_eq!(spec["podSelector"]["matchLabels"]["app.kubernetes.io/name"], "ncps", "{spec}");
            assert!(!selects(spec, &Labels::new()) && !selects(spec, &other), "{spec}");
        }
        for pod in manifest.pods() {
            let closed = |spec: &&Value| selects(spec, &pod.labels) && spec["ingress"].is_null();
            assert!(policies.iter().any(closed), "{} of {} is open", pod.name, manifest.name);
        }
    }
}

/// What is asked for is in the pods of all workloads.
#[test]
fn what_the_chart_adds_is_in_every_pod() {
    let named = |wanted: &str| Manifest::all().into_iter().find(|m| m.name == wanted).expect("rendered");
    for manifest in ["example", "helm-example"].map(named) {
        for pod in manifest.pods() {
            let container = pod.container();
            for (place, entry) in [
                (&container["env"], "NETRC_FILE"),
                (&container["volumeMounts"], "netrc"),
                (&pod.spec["volumes"], "netrc"),
            ] {
                assert!(list(place).iter().any(|one| one["name"] == entry), "{entry} of {}", pod.name);
            }
        }
        for kind in ["ServiceMonitor", "PrometheusRule"] {
            let labels = manifest.of(kind).map(|object| &object["metadata"]["labels"]["release"]);
            assert_eq!(labels.collect::<Vec<_>>(), ["kube-prometheus-stack"], "{}", manifest.name);
        }
    }
    let everything = named("helm-everything");
    for pod in everything.pods() {
        assert_eq!(pod.spec["nodeSelector"], json!({"kubernetes.io/arch": "amd64"}), "{}", pod.name);
        assert_eq!(pod.spec["tolerations"][0]["key"], "example.org/caches", "{}", pod.name);
        assert!(pod.spec["affinity"]["podAntiAffinity"].is_object(), "{}", pod.name);
    }
    let control = everything.of("NetworkPolicy").find(|p| p["metadata"]["name"] == "ncps-control");
    assert_eq!(list(&control.expect("a fleet")["spec"]["egress"]).len(), 2);
    for service in everything.of("Service").filter(|service| service["metadata"]["name"] == "ncps") {
        assert_eq!(service["spec"]["type"], "LoadBalancer");
        assert!(service["metadata"]["annotations"].is_object());
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

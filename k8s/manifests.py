"""What k8s/check asks of rendered manifests.

rule FILE        prints the PrometheusRule that has these alert rules
validate FILE... against the schemas of Kubernetes, of the oldest and the newest version meant, and those in schemas/
compare A B      whether the chart makes the objects that the overlay makes

Absent: what manifests mean to the programs in them; tests/tests/it/manifests.rs knows that.
"""

import json
import pathlib
import sys

import jsonschema
import kubernetes_validate
import yaml

HERE = pathlib.Path(__file__).parent
VERSIONS = ["1.27", "1.37"]
# Where one side says nothing of it, or both say it by other means.
ONE_SIDED = {"Namespace"}

RULE_HEAD = """\
# Made of monitoring/alerts.yaml by `UPDATE_GOLDEN=1 k8s/check`.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: ncps
  labels:
    app.kubernetes.io/name: ncps
spec:
"""


class Strict(yaml.SafeLoader):
    """YAML in which a key comes once."""


def mapping(loader, node, deep=False):
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    twice = {key for key in keys if keys.count(key) > 1}
    if twice:
        raise yaml.constructor.ConstructorError(None, None, f"twice: {twice}", node.start_mark)
    return yaml.SafeLoader.construct_mapping(loader, node, deep)


Strict.add_constructor(
    yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG,
    lambda loader, node: mapping(loader, node, deep=True),
)


def objects(file):
    text = pathlib.Path(file).read_text()
    return [document for document in yaml.load_all(text, Loader=Strict) if document]


def named(thing):
    return thing["kind"], thing["metadata"]["name"]


def rule(file):
    lines = pathlib.Path(file).read_text().splitlines()
    rules = [line for line in lines if not line.startswith("#")]
    print(RULE_HEAD + "\n".join("  " + line for line in rules))


def own_schema(thing):
    schema = HERE / "schemas" / f"{thing['kind'].lower()}.json"
    return json.loads(schema.read_text()) if schema.exists() else None


def problems(thing):
    schema = own_schema(thing)
    if schema:
        validator = jsonschema.Draft202012Validator(schema)
        return [f"{'.'.join(map(str, e.path))}: {e.message}" for e in validator.iter_errors(thing)]
    found = []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(thing, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(f"{version}: {'.'.join(map(str, error.path))}: {error.message}")
        except kubernetes_validate.SchemaNotFoundError as error:
            found.append(error.message)
    return found


def validate(*files):
    things = [(file, thing) for file in files for thing in objects(file)]
    found = [(file, *named(thing), problem) for file, thing in things for problem in problems(thing)]
    for problem in found:
        print(*problem)
    print(f"{len(things)} objects against Kubernetes {' and '.join(VERSIONS)}")
    return not found and things


def plain(thing):
    """Without what tells both sides apart by intent: hashes of the configuration, and comments in it."""
    thing = json.loads(json.dumps(thing))
    if thing["kind"] == "ConfigMap":
        thing["metadata"]["name"] = thing["metadata"]["name"].split("-")[0]
        thing["data"] = {name: yaml.load(text, Loader=Strict) for name, text in thing["data"].items()}
    template = thing.get("spec", {}).get("template")
    if template:
        template["metadata"].pop("annotations", None)
        spec = template["spec"]
        for volume in spec["volumes"]:
            if "configMap" in volume:
                volume["configMap"]["name"] = volume["configMap"]["name"].split("-")[0]
        spec["volumes"].sort(key=lambda volume: volume["name"])
        for container in spec["containers"]:
            container["volumeMounts"].sort(key=lambda mount: mount["name"])
            container["env"].sort(key=lambda variable: variable["name"])
    return thing


def compare(overlay, chart):
    sides = [{named(plain(thing)): plain(thing) for thing in objects(file)} for file in (overlay, chart)]
    sides = [{name: thing for name, thing in side.items() if name[0] not in ONE_SIDED} for side in sides]
    names = sorted(set(sides[0]) | set(sides[1]))
    unequal = [name for name in names if sides[0].get(name) != sides[1].get(name)]
    for name in unequal:
        print(f"{overlay} and {chart} differ in {name}:")
        for side in sides:
            print(json.dumps(side.get(name), sort_keys=True))
    return names and not unequal


if __name__ == "__main__":
    commands = {"rule": rule, "validate": validate, "compare": compare}
    command = commands[sys.argv[1]]
    good = command(*sys.argv[2:])
    sys.exit(0 if good or command is rule else 1)

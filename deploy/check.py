"""What deploy/validate asks beside the tools: each Kubernetes object by its schema, and what no schema knows, whether these
files are about this pipeline, this host and one another.

    check.py RENDERED...

RENDERED are what kustomize makes, as YAML. Prints every fault and exits with 1 if there is any.
"""

import re
import sys
import tomllib
from base64 import b64decode
from pathlib import Path

import kubernetes_validate
import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject

# The oldest that deploy/README.md names, and the newest that the validator knows.
KUBERNETES = ["1.30", kubernetes_validate.latest_version()]

faults = []


def expect(fine, fault):
    if not fine:
        faults.append(fault)


def one(pattern, file):
    """What stands in the file in the pattern's place, everywhere the same."""
    found = set(re.findall(pattern, Path(file).read_text()))
    expect(len(found) == 1, f"{file}: `{pattern}` finds {sorted(found)}, and should find one")
    return next(iter(found), None)


def check_schema(where, document):
    if document["kind"] == "ScaledObject":
        # It has no strict mode: what it doesn't know, it leaves out.
        known = ScaledObject.model_validate(document).model_dump(mode="json", by_alias=True, exclude_unset=True)
        expect(known == document, f"{where}: KEDA knows only {known['spec']}")
        return
    for version in KUBERNETES:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            place = ".".join(map(str, getattr(error, "path", [])))
            faults.append(f"{where}, Kubernetes {version}: {place}: {error.message}")


def check_versions():
    rust = tomllib.loads(Path("rust-toolchain.toml").read_text())["toolchain"]["channel"]
    built_by = one(r"FROM rust:([\d.]+)-", "Dockerfile")
    expect(built_by == rust, f"Dockerfile: Rust {built_by}, where rust-toolchain.toml has {rust}")
    built_on, runs_on = one(r"FROM rust:\S+-(\w+) ", "Dockerfile"), one(r"distroless/cc-debian(\d+):", "Dockerfile")
    numbers = {"bookworm": "12", "trixie": "13"}
    expect(numbers.get(built_on) == runs_on, f"Dockerfile: built on {built_on}, run on Debian {runs_on}")
    kafka = one(r"<kafka.version>([\d.]+)<", "kafka/pom.xml")
    composed = one(r"apache/kafka:([\d.]+)", "compose.yaml")
    expect(composed == kafka, f"compose.yaml: Kafka {composed}, where kafka/pom.xml has {kafka}")


def check_image(pipeline):
    dockerfile = Path("Dockerfile").read_text()
    for handler in pipeline["handlers"].values():
        name = handler["component"]
        expect(f"/out/{name}" in dockerfile, f"Dockerfile: it brings no {name}")


def check_folder(where, objects, pod, pipeline):
    """The pods' /app has what pipeline.toml names, and nothing else."""
    sources = next(volume for volume in pod["volumes"] if volume["name"] == "pipeline")["projected"]["sources"]
    there = set()
    for source in (source["configMap"] for source in sources):
        config_map = objects.get(("ConfigMap", source["name"]), {})
        held = config_map.get("data", {}) | config_map.get("binaryData", {})
        size = len("".join(config_map.get("data", {}).values()).encode())
        size += sum(len(b64decode(value)) for value in config_map.get("binaryData", {}).values())
        expect(size <= 1 << 20, f"{where}: the ConfigMap {source['name']} has {size} bytes, more than 1 MiB")
        for item in source["items"]:
            expect(item["key"] in held, f"{where}: the ConfigMap {source['name']} has no {item['key']}")
            there.add(item["path"])
    named = {"pipeline.toml"} | {handler["component"] for handler in pipeline["handlers"].values()}
    named |= {resource["schema"] for resource in pipeline["http"]["resources"].values() if "schema" in resource}
    expect(there == named, f"{where}: /app and pipeline.toml differ in {sorted(there ^ named)}")


def check_scaling(where, scaled, stateful_set, pipeline):
    """KEDA looks at every topic that is read, by the group that reads it."""
    expect("replicas" not in stateful_set, f"{where}: both KEDA and the StatefulSet say how many hosts there are")
    subscribers = pipeline["handlers"] | pipeline["sinks"]
    read = {
        (f"wasmill.{pipeline['name']}.{name}", topic)
        for name, subscriber in subscribers.items()
        for topic in subscriber["subscribe"]
    }
    triggers = {(t["metadata"]["consumerGroup"], t["metadata"]["topic"]) for t in scaled["triggers"]}
    expect(triggers == read, f"{where}: the triggers and pipeline.toml differ in {sorted(triggers ^ read)}")
    # A host takes part in each group with as many threads as the subscriber has shards.
    partitions = pipeline["kafka"]["partitions"]
    shards = min(subscriber.get("shards", 1) for subscriber in subscribers.values())
    useful = -(-partitions // shards)
    most = scaled.get("maxReplicaCount", 100)
    expect(most <= useful, f"{where}: {most} hosts, of which {partitions} partitions and {shards} shards keep {useful} busy")


def main():
    pipeline = tomllib.loads(Path("pipeline.toml").read_text())
    check_versions()
    check_image(pipeline)
    for rendered in sys.argv[1:]:
        objects = {}
        for document in yaml.safe_load_all(Path(rendered).read_text()):
            kind, name = document["kind"], document["metadata"]["name"]
            objects[kind, name] = document
            check_schema(f"{rendered}, {kind} {name}", document)
        stateful_set = objects["StatefulSet", "wasmill"]["spec"]
        check_folder(rendered, objects, stateful_set["template"]["spec"], pipeline)
        if scaled := objects.get(("ScaledObject", "wasmill")):
            check_scaling(rendered, scaled["spec"], stateful_set, pipeline)
    for fault in faults:
        print(fault, file=sys.stderr)
    sys.exit(bool(faults))


main()

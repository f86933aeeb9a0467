"""What kubernetes-validate, checkov and YAML's own reader make of rendered manifests, as one JSON object on standard output.

    .cache/sdk/kubernetes/bin/python tests/kubernetes/judge.py [--read] [--source FOLDER] NAME.yaml…

`documents` has every object of each file; `invalid` what the schemas of two versions of Kubernetes say against one; `unknown` the kinds that
Kubernetes publishes no schema of; `failed` and `passed` are checkov's; `loose` are scalars that a reader of YAML 1.1 takes for
booleans in the manifests as they are written, in the folder that is given. `--read` judges nothing.
"""

import argparse
import contextlib
import io
import json
import pathlib
import subprocess
import sys

import kubernetes_validate
import yaml

HERE = pathlib.Path(__file__).parent
# The oldest Kubernetes that knows sidecars without a feature gate.
OLDEST = "1.29"
# YAML 1.1 takes these for booleans, YAML 1.2 and a person for words.
TRAPS = {"y", "n", "yes", "no", "on", "off"}


def against_the_schemas(documents):
    """Whatever the schemas of the oldest and the newest Kubernetes refuse, unknown members included."""
    versions = [OLDEST, kubernetes_validate.latest_version()]
    invalid, unknown = [], set()
    for version in versions:
        for file, document in documents:
            name = f"{version}: {file}: {document.get('kind')}/{document.get('metadata', {}).get('name')}"
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except kubernetes_validate.SchemaNotFoundError:
                unknown.add(document["kind"])
            except kubernetes_validate.ValidationError as error:
                invalid.append(f"{name}: {'.'.join(str(part) for part in error.path)}: {error.message}")
    return versions, invalid, sorted(unknown)


def against_checkov(files):
    """checkov's checks by name, without its vendor's service."""
    command = [sys.executable, str(pathlib.Path(sys.executable).with_name("checkov")), "--framework", "kubernetes"]
    command += ["--skip-download", "--output", "json", "--config-file", str(HERE / "checkov.yaml")]
    for file in files:
        command += ["--file", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        said = json.loads(done.stdout)
    except ValueError:
        sys.exit(f"checkov wrote no report: {done.stdout}\n{done.stderr}")
    if said["summary"]["parsing_errors"]:
        sys.exit(f"checkov cannot read {said['results']['parsing_errors']}")
    failed = [f"{c['check_id']} {c['file_path']} {c['resource']}: {c['check_name']}" for c in said["results"]["failed_checks"]]
    return failed, said["summary"]["passed"]


def loose(folder):
    """Plain scalars that are booleans to one reader and words to another."""
    found = []
    for file in sorted(folder.rglob("*.yaml")):
        for token in yaml.scan(file.read_text(encoding="utf-8")):
            if isinstance(token, yaml.ScalarToken) and token.plain and token.value.lower() in TRAPS:
                found.append(f"{file}:{token.start_mark.line + 1}: {token.value}")
    return found


def main():
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--source", type=pathlib.Path)
    words.add_argument("--read", action="store_true")
    words.add_argument("files", nargs="+", type=pathlib.Path)
    words = words.parse_args()
    documents = {file.stem: list(yaml.safe_load_all(file.read_text(encoding="utf-8"))) for file in words.files}
    said = {"documents": documents}
    if not words.read:
        # The judges talk on standard output, too.
        with contextlib.redirect_stdout(io.StringIO()):
            versions, invalid, unknown = against_the_schemas([(f, d) for f, all_of in documents.items() for d in all_of])
            failed, passed = against_checkov(words.files)
        said |= {"versions": versions, "invalid": invalid, "unknown": unknown, "failed": failed, "passed": passed}
    if words.source:
        said["loose"] = loose(words.source)
    json.dump(said, sys.stdout)


if __name__ == "__main__":
    main()

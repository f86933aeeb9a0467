"""Stands for kubectl and a cluster where docs/install.md is carried out: pods are processes of the real perch on this machine.

    CLUSTER=FOLDER cluster.py -n app apply -k OVERLAY

What kubectl does by itself (rendering, making a Secret) the real one does. What a cluster would do is done here as far as the
document needs it, and a word that is not known is refused; so is what a cluster would refuse: an image that nobody has pushed, a
namespace, ConfigMap, Secret or claim that is not there, another Job under the name of one that is. Of a pod only perch is started, with the
paths, variables and settings of its container; `$CLUSTER/here.json` says what else stands in for something: `images` that were pushed,
`replace` pairs of texts, `environment` of each perch.
"""

import base64
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import urllib.request

import yaml

CLUSTER = pathlib.Path(os.environ["CLUSTER"])
HERE = json.loads((CLUSTER / "here.json").read_text(encoding="utf-8"))
KUBECTL, PERCH = HERE["kubectl"], HERE["perch"]
# Far beyond what anything takes; it only turns a hang into a message.
HANG = 60


def fail(why):
    sys.exit(f"cluster: {why}")


def until(what, is_so):
    end = time.monotonic() + HANG
    while not is_so():
        if time.monotonic() > end:
            fail(f"this did not happen: {what}")
        time.sleep(0.05)


def real(*words):
    """What the real kubectl says; it reaches no cluster."""
    return subprocess.run([KUBECTL, *words], check=True, capture_output=True, text=True).stdout


def space(name):
    """The folder of a namespace, which must be there."""
    folder = CLUSTER / "namespaces" / name
    if not folder.exists():
        fail(f'namespaces "{name}" not found')
    return folder


def keep(namespace, kind, name, files):
    folder = space(namespace) / kind / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file, content in files.items():
        (folder / file).write_bytes(content)
        (folder / file).chmod(0o440)


class Pod:
    """One pod of a Deployment or a Job: its folders, and perch as its containers say."""

    def __init__(self, namespace, name, spec):
        self.name, self.spec, self.folder = name, spec, CLUSTER / "pods" / name
        self.space = space(namespace)
        self.folder.mkdir(parents=True, exist_ok=True)

    def there(self, kind, name):
        folder = self.space / kind / name
        if not folder.exists():
            fail(f"{self.name}: {kind} {name} not found in namespace {self.space.name}")
        return folder

    def place(self, volume):
        if "configMap" in volume:
            return self.there("configmaps", volume["configMap"]["name"])
        if "secret" in volume:
            return self.there("secrets", volume["secret"]["secretName"])
        if "persistentVolumeClaim" in volume:
            return self.there("claims", volume["persistentVolumeClaim"]["claimName"])
        folder = self.folder / volume["name"]
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def value(self, variable):
        """What a variable is; None where a cluster knows it and this does not."""
        reference = variable.get("valueFrom", {}).get("configMapKeyRef")
        if reference is None:
            return variable.get("value")
        file = self.there("configmaps", reference["name"]) / reference["key"]
        if not file.exists():
            fail(f"{self.name}: no {reference['key']} in the ConfigMap {reference['name']}")
        return file.read_text(encoding="utf-8")

    def check(self):
        """What a kubelet needs before it starts anything."""
        for volume in self.spec["volumes"]:
            self.place(volume)
        for container in self.spec.get("initContainers", []) + self.spec["containers"]:
            if container["image"] not in HERE["images"]:
                fail(f"{self.name}: nobody has pushed {container['image']}")

    def command(self, container, words):
        """The program, its environment and its folder."""
        volumes = {volume["name"]: volume for volume in self.spec["volumes"]}
        places = {mount["mountPath"]: str(self.place(volumes[mount["name"]])) for mount in container["volumeMounts"]}

        def here(text):
            # The longest first, so that a folder inside another is not taken for it.
            for path in sorted(places, key=len, reverse=True):
                text = text.replace(path, places[path])
            for old, new in HERE["replace"]:
                text = text.replace(old, new)
            return text

        environment = {"POD_NAME": self.name}
        for variable in container["env"]:
            value = self.value(variable)
            if value is not None:
                environment[variable["name"]] = here(value)
        config = self.there("configmaps", "perch") / "perch.toml"
        own, text = self.folder / "perch.toml", here(config.read_text(encoding="utf-8"))
        if not own.exists() or own.read_text(encoding="utf-8") != text:
            own.write_text(text, encoding="utf-8")
        environment |= {"PERCH_CONFIG": str(own), **HERE["environment"]}
        state = places.get("/var/lib/perch", str(self.folder))
        return {"args": [PERCH, *[here(word) for word in words]], "env": environment, "cwd": state}

    def perch(self):
        all_of = self.spec.get("initContainers", []) + self.spec["containers"]
        return next(container for container in all_of if container["name"] == "perch")

    def start(self):
        with open(self.folder / "log", "w", encoding="utf-8") as log:
            process = subprocess.Popen(
                **self.command(self.perch(), self.perch()["args"]), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )
        (self.folder / "pid").write_text(str(process.pid), encoding="utf-8")

    def doors(self):
        """Where it listens, by its own word; none as long as it does not."""
        for line in (self.folder / "log").read_text(encoding="utf-8").splitlines():
            if "perch listens" in line:
                return json.loads(line)
        if not is_there(int((self.folder / "pid").read_text(encoding="utf-8"))):
            fail(f"perch has ended: {(self.folder / 'log').read_text(encoding='utf-8')}")
        return None

    def is_ready(self):
        doors = self.doors()
        if doors is None:
            return False
        path = self.perch()["startupProbe"]["httpGet"]["path"]
        try:
            with urllib.request.urlopen(f"http://{doors['probes']}{path}", timeout=6) as answer:
                return answer.status == 200
        except OSError:
            return False

    def stop(self):
        if not (self.folder / "pid").exists():
            # It was refused before anything of it ran.
            shutil.rmtree(self.folder)
            return
        pid = int((self.folder / "pid").read_text(encoding="utf-8"))
        os.kill(pid, signal.SIGTERM)
        until(f"{self.name} ends", lambda: not is_there(pid))
        shutil.move(self.folder, CLUSTER / "ended" / f"{self.name}-{pid}")


def is_there(pid):
    """A process that has ended and was not waited for is there as well, as a Z."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def pods():
    """The pods of the Deployment that run."""
    file = CLUSTER / "deployment.json"
    if not file.exists():
        return []
    document = json.loads(file.read_text(encoding="utf-8"))
    namespace, spec = document["metadata"]["namespace"], document["spec"]["template"]["spec"]
    return [Pod(namespace, folder.name, spec) for folder in sorted((CLUSTER / "pods").glob("app-*"))]


def deploy(document, replicas):
    (CLUSTER / "ended").mkdir(exist_ok=True)
    for pod in pods():
        pod.stop()
    (CLUSTER / "deployment.json").write_text(json.dumps(document), encoding="utf-8")
    for at in range(replicas):
        pod = Pod(document["metadata"]["namespace"], f"app-{at}", document["spec"]["template"]["spec"])
        pod.check()
        pod.start()


def job(document):
    """Runs its containers one after the other, which is what a Job of init containers and one other does."""
    spec, name = document["spec"]["template"]["spec"], document["metadata"]["name"]
    if (CLUSTER / "pods" / name).exists():
        fail(f"jobs {name}: one is there already, and what it runs cannot be changed")
    pod = Pod(document["metadata"]["namespace"], name, spec)
    pod.check()
    if pods() and any("persistentVolumeClaim" in volume for volume in spec["volumes"]):
        fail(f"{name}: the volume is in another pod, and no two may have it")
    told = []
    for container in spec.get("initContainers", []) + spec["containers"]:
        done = subprocess.run(**pod.command(container, container["args"]), capture_output=True, text=True, check=False)
        if done.returncode:
            fail(f"{pod.name}, {container['name']}: exit code {done.returncode}: {done.stderr}")
        told.append(done.stdout)
    (pod.folder / "log").write_text("".join(told), encoding="utf-8")
    (pod.folder / "complete").touch()


def apply(text):
    documents = list(yaml.safe_load_all(text))
    for document in documents:
        if document["kind"] == "Namespace":
            (CLUSTER / "namespaces" / document["metadata"]["name"]).mkdir(parents=True, exist_ok=True)
    for document in documents:
        name, namespace = document["metadata"]["name"], document["metadata"].get("namespace", "default")
        if document["kind"] == "ConfigMap":
            keep(namespace, "configmaps", name, {file: content.encode() for file, content in document["data"].items()})
        elif document["kind"] == "PersistentVolumeClaim":
            (space(namespace) / "claims" / name).mkdir(parents=True, exist_ok=True)
    for document in documents:
        if document["kind"] == "Deployment":
            deploy(document, document["spec"]["replicas"])
        elif document["kind"] == "Job":
            job(document)


def main(words):
    namespace = "default"
    if words[0] == "-n":
        namespace, words = words[1], words[2:]
        space(namespace)
    if words[0] != "apply" and namespace != "app":
        fail(f"nothing of {words} is in the namespace {namespace}")
    match words:
        case ["apply", "-f", file]:
            apply(pathlib.Path(file).read_text(encoding="utf-8"))
        case ["apply", "-k", folder]:
            apply(real("kustomize", folder))
        case ["create", "secret", "generic", name, *_]:
            if (space(namespace) / "secrets" / name).exists():
                fail(f"secrets {name} already exists")
            made = json.loads(real(*words, "--dry-run=client", "--output=json"))
            keep(namespace, "secrets", name, {key: base64.b64decode(value) for key, value in made["data"].items()})
        case ["delete", "secret", name]:
            shutil.rmtree(space(namespace) / "secrets" / name)
        case ["delete", "job", name, "--ignore-not-found"]:
            shutil.rmtree(CLUSTER / "pods" / name, ignore_errors=True)
        case ["rollout", "status", "deployment/app", _]:
            until("the pods are ready", lambda: all(pod.is_ready() for pod in pods()))
            (CLUSTER / "doors.json").write_text(json.dumps([pod.doors() for pod in pods()]), encoding="utf-8")
        case ["scale", "deployment/app", "--replicas=0"]:
            for pod in pods():
                pod.stop()
        case ["wait", "--for=delete", "pod", "-l", "app=app", _]:
            if pods():
                fail("a pod is there")
        case ["wait", "--for=condition=complete", named, _] if named.startswith("job/"):
            if not (CLUSTER / "pods" / named.removeprefix("job/") / "complete").exists():
                fail(f"{named} is not complete")
        case ["logs", named] if named.startswith("job/"):
            print((CLUSTER / "pods" / named.removeprefix("job/") / "log").read_text(encoding="utf-8"), end="")
        case ["exec", "deploy/app", "-c", "perch", "--", "/perch", *rest]:
            pod = pods()[0]
            done = subprocess.run(**pod.command(pod.perch(), rest), check=False)
            sys.exit(done.returncode)
        case ["port-forward", "deploy/app", *_]:
            # The doors are on this machine already; `curl` finds them in doors.json.
            pass
        case _:
            fail(f"what would a cluster do with {words}?")


if __name__ == "__main__":
    main(sys.argv[1:])

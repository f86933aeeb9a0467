#!/usr/bin/env python3
"""Writes the software bill of materials of perch for one target, as CycloneDX 1.6 JSON: `sbom.py --target TRIPLE`.

What stands in it: every crate that cargo links into `perch` for that target, with the features it has there (scope
"required"); the crates that only work while it is compiled, such as procedural macros (scope "excluded"); the C code that
some crates carry, because that is what advisories are written about; Rust's own library, and musl where it is linked in.
`--binary FILE` adds the program's digest, `--roots FILE` the trust anchors that lie beside it in the image, and
`--notices FILE` writes what the licences of all that is linked ask to be handed on with it: their own words.

The same tree and the same toolchain give the same bytes: there is no clock in it but SOURCE_DATE_EPOCH's, if that is set.
Nothing is fetched but what `cargo build` fetches. Only Python's own library is used.
"""

import argparse
import datetime
import hashlib
import html
import json
import os
import pathlib
import re
import subprocess
import sys
import urllib.parse
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent
INDEX = "registry+https://github.com/rust-lang/crates.io-index"

# C code inside of crates: the crate, its name, the file and the words that tell its version, its licence, and the name
# under which the National Vulnerability Database knows it.
BUNDLED = [
    ("libsqlite3-sys", "sqlite", "sqlite3/sqlite3.h", r'#define SQLITE_VERSION\s+"([^"]+)"', "blessing", "sqlite:sqlite"),
    ("libz-ng-sys", "zlib-ng", "src/zlib-ng/zlib-ng.h.in", r'#define ZLIBNG_VERSION\s+"([^"]+)"', "Zlib", "zlib-ng:zlib-ng"),
    ("zstd-sys", "zstd", None, r"\+zstd\.([0-9.]+)$", "BSD-3-Clause OR GPL-2.0-only", "facebook:zstandard"),
]
# Files that a licence asks to be handed on.
NOTICE = re.compile(r"(licen[cs]e|copying|copyright|notice|unlicense)", re.IGNORECASE)
# Crates that carry C code or assembler of their own, whose version is the crate's.
OWN_C = {"ring"}


def run(*command):
    """What a command prints; its own words when it fails."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"sbom: {' '.join(command[:3])} failed:\n{done.stderr.strip()}")
    return done.stdout


def tree(target, edges):
    """The crates that cargo uses: {(name, version): set of those it needs}, and which of them are procedural macros."""
    text = run("cargo", "tree", "--locked", "--target", target, "--edges", edges, "--prefix", "depth", "--format", "|{p}")
    needs, macros, above = {}, set(), []
    for line in text.splitlines():
        depth, _, rest = line.partition("|")
        words = rest.split()
        crate = (words[0], words[1].removeprefix("v"))
        if "(proc-macro)" in words:
            macros.add(crate)
        needs.setdefault(crate, set())
        del above[int(depth):]
        if above:
            needs[above[-1]].add(crate)
        above.append(crate)
    return needs, macros


def reached(root, needs, without):
    """What is linked: all that the root needs, and what that needs, but not through a procedural macro."""
    seen, todo = set(), [root]
    while todo:
        crate = todo.pop()
        if crate not in seen and crate not in without:
            seen.add(crate)
            todo.extend(needs.get(crate, ()))
    return seen


def purl(kind, name, version):
    """A package URL."""
    return f"pkg:{kind}/{name}@{urllib.parse.quote(version, safe='')}"


def licensed(words):
    """A licence as SPDX writes it; crates of old wrote a slash for "or"."""
    return [{"expression": re.sub(r"\s*/\s*", " OR ", words)}]


def crate_component(crate, facts, checksums, scope):
    """One crate of crates.io, with the digest that Cargo.lock holds it to."""
    name, version = crate
    entry = {
        "type": "library",
        "bom-ref": purl("cargo", name, version),
        "name": name,
        "version": version,
        "scope": scope,
        "purl": purl("cargo", name, version),
    }
    package = facts.get(crate)
    if package is None or crate not in checksums:
        sys.exit(f"sbom: {name} {version} is not a crate of crates.io that Cargo.lock knows; say here where it comes from")
    entry["hashes"] = [{"alg": "SHA-256", "content": checksums[crate]}]
    if not package["license"]:
        sys.exit(f"sbom: {name} {version} names no licence; look at what it ships and say it here")
    entry["licenses"] = licensed(package["license"])
    if (package["repository"] or "").startswith("https://"):
        entry["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return entry


def bundled_component(crate, facts, row):
    """The C code that a crate carries."""
    _, name, file, pattern, licence, cpe = row
    where = crate[1] if file is None else (pathlib.Path(facts[crate]["manifest_path"]).parent / file).read_text("utf-8")
    found = re.search(pattern, where)
    if not found:
        sys.exit(f"sbom: no version of {name} was found in {crate[0]} {crate[1]} ({file or 'its version'})")
    version = found.group(1)
    return {
        "type": "library",
        "bom-ref": purl("generic", name, version),
        "name": name,
        "version": version,
        "description": f"C code that the crate {crate[0]} compiles in",
        "scope": "required",
        "licenses": licensed(licence),
        "cpe": f"cpe:2.3:a:{cpe}:{version}:*:*:*:*:*:*:*",
        "purl": purl("generic", name, version),
    }


def toolchain_components(target):
    """Rust's own library, and musl when the target links it."""
    verbose = dict(line.split(": ", 1) for line in run("rustc", "-vV").splitlines() if ": " in line)
    version = verbose["release"]
    yield {
        "type": "library",
        "bom-ref": purl("generic", "rust-std", version),
        "name": "rust-std",
        "version": version,
        "description": f"Rust's standard library for {target}, of rustc {verbose['commit-hash']}",
        "scope": "required",
        "licenses": licensed("MIT OR Apache-2.0"),
        "cpe": f"cpe:2.3:a:rust-lang:rust:{version}:*:*:*:*:*:*:*",
        "purl": purl("generic", "rust-std", version),
    }
    if not target.endswith("-musl"):
        return
    sysroot = pathlib.Path(run("rustc", "--print", "sysroot").strip())
    archive = sysroot / "lib" / "rustlib" / target / "lib" / "self-contained" / "libc.a"
    # musl's own word for its version stands alone between two zeros.
    found = re.search(rb"\0(1\.\d+\.\d+)\0", archive.read_bytes()) if archive.exists() else None
    if not found:
        sys.exit(f"sbom: musl's version was not found in {archive}; run: rustup target add {target}")
    version = found.group(1).decode()
    yield {
        "type": "library",
        "bom-ref": purl("generic", "musl", version),
        "name": "musl",
        "version": version,
        "description": "the C library that Rust links in",
        "scope": "required",
        "licenses": licensed("MIT"),
        "cpe": f"cpe:2.3:a:musl-libc:musl:{version}:*:*:*:*:*:*:*",
        "purl": purl("generic", "musl", version),
    }


def sha256(path):
    return [{"alg": "SHA-256", "content": hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()}]


def roots_component(path, version):
    """The trust anchors that lie in the image. Anchors of somebody's own have no version; their digest tells them apart."""
    digest = sha256(path)
    return {
        "type": "data",
        "bom-ref": f"ca-certificates@{digest[0]['content'][:16]}",
        "name": "ca-certificates",
        **({"version": version} if version else {}),
        "description": "Mozilla's trust anchors, at /etc/ssl/certs/ca-certificates.crt of the image",
        "scope": "required",
        "hashes": digest,
        "licenses": licensed("MPL-2.0"),
    }


def toolchain_texts(target):
    """The words of Rust's own library and of what it carries, and of musl, as the toolchain and the system ship them."""
    sysroot = pathlib.Path(run("rustc", "--print", "sysroot").strip())
    doc = sysroot / "share" / "doc" / "rust"
    # A page for people; the words of it are what has to be handed on.
    wanted = [("Rust's standard library", [doc / "COPYRIGHT-library.html"], "a toolchain of rustup's")]
    # The page has the words of what the library carries; the folder those of the library's own two licences, among the compiler's.
    for licence in ("Apache-2.0", "MIT"):
        wanted.append((f"Rust's standard library: {licence}", [doc / "licenses" / f"{licence}.txt"], "a toolchain of rustup's"))
    if target.endswith("-musl"):
        places = [pathlib.Path("/usr/share/doc") / name / "copyright" for name in ("musl", "musl-dev", "musl-tools")]
        wanted.append(("musl", places, "the package musl"))
    for name, places, source in wanted:
        file = next((place for place in places if place.is_file()), None)
        if file is None:
            sys.exit(f"sbom: {places[0]} is not there, and the words of {name} must be in the image; install {source}")
        text = file.read_text("utf-8", errors="replace")
        if file.suffix == ".html":
            text = re.sub(r"<(style|script)\b.*?</\1>", "", text, flags=re.DOTALL)
            text = html.unescape(re.sub(r"<[^>]*>", "", text))
            text = re.sub(r"\n\s*\n\s*\n+", "\n\n", text)
        yield name, text.replace("\r\n", "\n").strip()


def notices(linked, facts, target):
    """The licences of what is linked, each text once, with the crates that it came with."""
    texts, bare = {}, []
    for crate in sorted(linked):
        folder = pathlib.Path(facts[crate]["manifest_path"]).parent
        # A crate's own, and that of the C code below it.
        found = [f for f in sorted(folder.rglob("*")) if f.is_file() and NOTICE.match(f.name)]
        found = [f for f in found if not f.suffix or f.suffix.lower() in (".md", ".txt", ".mit", ".apache")]
        whole = {f.read_text("utf-8", errors="replace").replace("\r\n", "\n").strip() for f in found}
        for text in whole:
            texts.setdefault(text, set()).add(f"{crate[0]} {crate[1]}")
        if not whole:
            bare.append(f"{crate[0]} {crate[1]} ({facts[crate]['license']})")
    for name, text in toolchain_texts(target):
        texts.setdefault(text, set()).add(name)
    rule = "=" * 100
    parts = [
        "perch is made with the work of others. Here is what their licences ask to be handed on with it; the bill of\n"
        "materials beside the image says where each part comes from.",
        "These name their licence and bring no text of it along:\n\n" + "\n".join(bare),
        "Rust's standard library and, in a static program, musl are linked in; their words are below. SQLite is in the public domain.",
    ]
    for text, crates in sorted(texts.items(), key=lambda item: (sorted(item[1]), item[0])):
        parts.append(", ".join(sorted(crates)) + f"\n\n{text}")
    return f"\n\n{rule}\n\n".join(parts) + "\n"


def bill(target, binary=None, roots=None, notice_file=None, roots_version=None):
    """The whole document."""
    metadata = json.loads(
        run("cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target)
    )
    facts = {(package["name"], package["version"]): package for package in metadata["packages"]}
    own = next(p for p in metadata["packages"] if p["id"] in metadata["workspace_members"] and p["name"] == "perch")
    root = ("perch", own["version"])
    lock = (ROOT / "Cargo.lock").read_text("utf-8")
    locked = re.findall(
        r'\[\[package\]\]\nname = "([^"]+)"\nversion = "([^"]+)"\nsource = "([^"]+)"\nchecksum = "([0-9a-f]{64})"', lock
    )
    checksums = {(name, version): checksum for name, version, source, checksum in locked if source == INDEX}

    linked_needs, macros = tree(target, "normal")
    needs, also_macros = tree(target, "normal,build")
    macros |= also_macros
    linked = reached(root, linked_needs, macros)

    if notice_file:
        pathlib.Path(notice_file).write_text(notices(linked - {root}, facts, target), "utf-8")
    components, depends = [], {}
    for crate in sorted(set(needs) - {root}):
        scope = "required" if crate in linked else "excluded"
        components.append(crate_component(crate, facts, checksums, scope))
    for crate in needs:
        reference = "perch" if crate == root else purl("cargo", *crate)
        depends[reference] = {purl("cargo", *other) for other in needs[crate]}
    for row in BUNDLED:
        for crate in sorted(c for c in linked if c[0] == row[0]):
            component = bundled_component(crate, facts, row)
            components.append(component)
            depends[purl("cargo", *crate)].add(component["bom-ref"])
            depends[component["bom-ref"]] = set()
    # A crate that links C code, which nobody here has heard of, must not slip in unnamed.
    known = {row[0] for row in BUNDLED} | OWN_C
    for crate in sorted(linked):
        if facts[crate]["links"] and crate[0] not in known:
            sys.exit(f"sbom: {crate[0]} links {facts[crate]['links']}; say in scripts/sbom.py what it carries")
    extra = list(toolchain_components(target))
    if roots:
        extra.append(roots_component(roots, roots_version))
    for component in extra:
        components.append(component)
        depends["perch"].add(component["bom-ref"])
        depends[component["bom-ref"]] = set()

    about = {
        "type": "application",
        "bom-ref": "perch",
        "name": "perch",
        "version": own["version"],
        "description": own["description"],
        "licenses": licensed(own["license"]),
        "purl": purl("generic", "perch", own["version"]),
        "properties": [{"name": "perch:target", "value": target}],
    }
    if binary:
        about["hashes"] = sha256(binary)
    head = {"component": about}
    if "SOURCE_DATE_EPOCH" in os.environ:
        moment = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.timezone.utc)
        head["timestamp"] = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": head,
        "components": components,
        "dependencies": [{"ref": ref, "dependsOn": sorted(others)} for ref, others in sorted(depends.items())],
    }
    # Named after what it says, so that two bills with one name say the same.
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).digest()
    document["serialNumber"] = f"urn:uuid:{uuid.UUID(bytes=digest[:16], version=4)}"
    return document


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--target", required=True, help="the target, such as x86_64-unknown-linux-musl")
    options.add_argument("--binary", help="the program that was built; its digest is added")
    options.add_argument("--roots", help="the trust anchors of the image, a PEM file")
    options.add_argument("--roots-version", help="the version of the package that they come from")
    options.add_argument("--notices", help="where to write the licences' texts")
    given = options.parse_args()
    json.dump(bill(given.target, given.binary, given.roots, given.notices, given.roots_version), sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()

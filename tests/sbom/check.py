"""Says what is wrong with the CycloneDX 1.6 bill of materials on standard input, by its makers' own schema."""

import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read())
if wrong:
    sys.exit(str(wrong)[:2000])

"""Rules of the protocol, and who broke them: `RuleJudge` looks at the steps of a session."""

from spiceproxy.protocol.migration.rules.catalog import RULES, Rule
from spiceproxy.protocol.migration.rules.judge import CHECKED, RuleJudge

__all__ = ["CHECKED", "RULES", "Rule", "RuleJudge"]

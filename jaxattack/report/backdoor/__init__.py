"""The report of a backdoor study: which languages a trigger reaches, and what helps against it."""

from jaxattack.report.backdoor.account import account, is_backdoor

__all__ = ["account", "is_backdoor"]

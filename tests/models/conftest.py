"""Prints the parity table of the README: the largest differences seen, by family."""


def pytest_terminal_summary(terminalreporter):
    largest: dict[tuple[str, str], float] = {}
    for report in terminalreporter.getreports("passed"):
        found = dict(report.user_properties)
        if "family" in found:
            for what in ("logits", "gradients"):
                if what in found:
                    key = found["family"], what
                    largest[key] = max(largest.get(key, 0.0), found[what])
    if largest:
        terminalreporter.section("largest difference from transformers in float32")
        for (family, what), difference in sorted(largest.items()):
            terminalreporter.write_line(f"{family:12} {what:10} {difference:.1e}")

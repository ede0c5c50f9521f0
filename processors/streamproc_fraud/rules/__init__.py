"""Rules: a closed expression language, rule sets in TOML, and where they are reloaded from."""

"""The subcommands of ``fastdigit``, a module each, imported only when one is used."""

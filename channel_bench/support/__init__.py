"""What every room may use and no room is about: durable files, processes, compiled code, terminal, HTML pages."""

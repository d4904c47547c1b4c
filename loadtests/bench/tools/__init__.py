"""A call of a tool is measured by the gateway's toolbox and by the package `mcp` alone."""

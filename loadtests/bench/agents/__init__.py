"""What asks cost and hold is measured with real gateways, a real server of tools, and a fake model that calls them."""

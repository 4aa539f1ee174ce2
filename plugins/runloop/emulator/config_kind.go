package emulator

import (
	"maps"
	"net/netip"
)

// configKinds are the resources that say how devboxes reach others, and what is stored for them.
func configKinds() []kind {
	return []kind{
		{
			path: "/v1/network-policies", collection: "network_policies", prefix: "npol", noun: "Network policy", unique: true,
			required: []string{"name"}, make: makePolicy, change: changePolicy,
		},
		{
			path: "/v1/gateway-configs", collection: "gateway_configs", prefix: "gwc", noun: "Gateway config", unique: true,
			required: []string{"name", "endpoint", "auth_mechanism"}, make: makeGateway,
			change: given("name", "endpoint", "auth_mechanism", "custom_headers", "description"),
		},
		{
			path: "/v1/mcp-configs", collection: "mcp_configs", prefix: "mcp", noun: "MCP config", unique: true,
			required: []string{"name", "endpoint", "allowed_tools"}, make: makeMCP,
			change: given("name", "endpoint", "auth_mechanism", "allowed_tools", "custom_headers", "description"),
		},
		{
			path: "/v1/agents", collection: "agents", prefix: "agt", noun: "Agent", required: []string{"name"}, empty: true,
			make: func(request map[string]any) (map[string]any, error) {
				view := pick(request, "name", "source", "version")
				view["create_time_ms"], view["is_public"] = nowMs(), false
				return view, checkAgentSource(request["source"])
			},
		},
		{
			path: "/v1/objects", collection: "objects", prefix: "obj", noun: "Object", required: []string{"name", "content_type"},
			make: makeObject, keep: map[string]any{"state": objectDeleted, "upload_url": nil},
		},
		{
			path: "/v1/axons", collection: "axons", prefix: "axn", noun: "Axon", empty: true,
			make: func(request map[string]any) (map[string]any, error) {
				view := pick(request, "name", "metadata")
				view["created_at_ms"] = nowMs()
				return orEmpty(view)
			},
			change: given("metadata"),
		},
	}
}

// policyFlags are the switches of a network policy.
func policyFlags() []string {
	return []string{"allow_all", "allow_devbox_to_devbox", "allow_agent_gateway", "allow_mcp_gateway", "allow_runloop_mirrors"}
}

func makePolicy(request map[string]any) (map[string]any, error) {
	egress := map[string]any{"allowed_hostnames": []any{}, "allowed_cidrs": []any{}}
	for _, flag := range policyFlags() {
		egress[flag] = false
	}
	changes, err := policyEgress(request)
	if err != nil {
		return nil, err
	}
	maps.Copy(egress, changes)
	now := nowMs()
	return map[string]any{
		"name": request["name"], "description": request["description"], "egress": egress, "create_time_ms": now, "update_time_ms": now,
	}, nil
}

func changePolicy(request map[string]any) (map[string]any, error) {
	egress, err := policyEgress(request)
	if err != nil {
		return nil, err
	}
	changes := pick(request, "name", "description")
	changes["egress"] = egress
	return changes, nil
}

// policyEgress returns the parts of a policy's rule that a request gives.
func policyEgress(request map[string]any) (map[string]any, error) {
	egress := map[string]any{}
	for _, flag := range policyFlags() {
		if value, ok := request[flag]; ok && value != nil {
			on, ok := value.(bool)
			if !ok {
				return nil, badRequest("%s must be true or false", flag)
			}
			egress[flag] = on
		}
	}
	for _, list := range []string{"allowed_hostnames", "allowed_cidrs"} {
		if value, ok := request[list]; ok && value != nil {
			egress[list] = value
		}
	}
	cidrs, err := convert[[]struct{ Cidr string }](egress["allowed_cidrs"])
	if err != nil {
		return nil, err
	}
	for _, c := range cidrs {
		if _, err := netip.ParsePrefix(c.Cidr); err != nil {
			return nil, badRequest("Invalid CIDR: %s", c.Cidr)
		}
	}
	return egress, nil
}

func makeGateway(request map[string]any) (map[string]any, error) {
	view := pick(request, "name", "endpoint", "auth_mechanism", "custom_headers", "description")
	view["create_time_ms"], view["account_id"] = nowMs(), "acc_emulator"
	return view, nil
}

func makeMCP(request map[string]any) (map[string]any, error) {
	view := pick(request, "name", "endpoint", "auth_mechanism", "allowed_tools", "custom_headers", "description")
	view["create_time_ms"] = nowMs()
	if view["auth_mechanism"] == nil {
		view["auth_mechanism"] = map[string]any{"type": "bearer"}
	}
	return view, nil
}

// agentSource is where an agent comes from; one of its parts is given, as type says.
type agentSource struct {
	Type string
	Git  *struct {
		Repository string
		Ref        *string
		AgentSetup []string `json:"agent_setup"`
	}
	Npm *struct {
		PackageName string   `json:"package_name"`
		RegistryURL *string  `json:"registry_url"`
		AgentSetup  []string `json:"agent_setup"`
	}
	Pip *struct {
		PackageName string   `json:"package_name"`
		RegistryURL *string  `json:"registry_url"`
		AgentSetup  []string `json:"agent_setup"`
	}
	Object *struct {
		ObjectID   string   `json:"object_id"`
		AgentSetup []string `json:"agent_setup"`
	}
}

func checkAgentSource(raw any) error {
	if raw == nil {
		return nil
	}
	source, err := convert[agentSource](raw)
	if err != nil {
		return err
	}
	given := map[string]bool{"git": source.Git != nil, "npm": source.Npm != nil, "pip": source.Pip != nil, "object": source.Object != nil}
	if has, known := given[source.Type]; !known || !has {
		return badRequest("Invalid agent source: %q", source.Type)
	}
	return nil
}

package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"google.golang.org/protobuf/testing/protocmp"

	backendv1 "github.com/openhands-rt/openhands-rt/proto/openhands/backend/v1"
)

func describeClauses() []clause {
	return []clause{
		{name: "describe/identity", run: describeIdentity,
			rule: "Before Configure as after it, Describe gives the plugin's name, versions, protocol 1 and an instance that stays the same while the process lives."},
		{name: "describe/schema", run: describeSchema,
			rule: "Describe's config_schema is a JSON Schema (2020-12) of an object, and the config in use fits it."},
		{name: "describe/capabilities", run: describeCapabilities,
			rule: "Describe, Configure and the tester agree about the capabilities, and the kinds of action are named."},
		{name: "describe/instance", needs: []need{needCommand()}, run: describeInstance,
			rule: "Each start of the plugin mints a new instance."},
	}
}

// protocolMajor is the major version of backend.v1.
const protocolMajor = 1

func describeIdentity(_ context.Context, c *check) error {
	for when, d := range map[string]*backendv1.DescribeResponse{"before Configure": c.s.before, "after Configure": c.s.claims} {
		c.step("describe %s", when)
		switch {
		case d.GetName() == "" || d.GetVersion() == "" || d.GetSdkVersion() == "":
			return fmt.Errorf("name %q, version %q, sdk_version %q: none may be empty", d.GetName(), d.GetVersion(), d.GetSdkVersion())
		case d.GetProtocol() != protocolMajor:
			return fmt.Errorf("protocol %d, want %d", d.GetProtocol(), protocolMajor)
		case d.GetInstance() == "":
			return errors.New("instance is empty")
		case d.GetInstance() != c.s.before.GetInstance():
			return fmt.Errorf("instance changed from %q to %q in one process", c.s.before.GetInstance(), d.GetInstance())
		}
	}
	return nil
}

func describeSchema(_ context.Context, c *check) error {
	c.step("compile the schema")
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(c.s.claims.GetConfigSchema()))
	if err != nil {
		return fmt.Errorf("not JSON: %w", err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	if err := compiler.AddResource("config.json", doc); err != nil {
		return err
	}
	schema, err := compiler.Compile("config.json")
	if err != nil {
		return err
	}
	c.step("validate the config in use")
	config, err := jsonschema.UnmarshalJSON(bytes.NewReader(c.s.target.Config))
	if err != nil {
		return err
	}
	if err := schema.Validate(config); err != nil {
		return err
	}
	c.step("validate something that is no object")
	if schema.Validate([]any{}) == nil {
		return errors.New("the schema allows an array; it must ask for an object")
	}
	return nil
}

func describeCapabilities(_ context.Context, c *check) error {
	claims := c.s.claims.GetCapabilities()
	if len(claims.GetKinds()) == 0 {
		return errors.New("no kind of action is claimed")
	}
	if !slices.Contains([]string{"none", "process", "namespaced", "vm"}, claims.GetIsolation()) {
		return fmt.Errorf("isolation is %q; the words are none, process, namespaced and vm", claims.GetIsolation())
	}
	if diff := cmp.Diff(claims, c.s.answer.GetCapabilities(), protocmp.Transform()); diff != "" {
		return fmt.Errorf("Configure answered other capabilities than Describe (-describe +configure):\n%s", diff)
	}
	if diff := cmp.Diff(c.s.expect, claims, protocmp.Transform()); diff != "" {
		return fmt.Errorf("claimed is not what the tester expects (-expected +claimed):\n%s", diff)
	}
	return nil
}

func describeInstance(ctx context.Context, c *check) error {
	p, err := c.plugin(ctx)
	if err != nil {
		return err
	}
	c.step("describe")
	d, err := p.Describe(ctx, &backendv1.DescribeRequest{})
	if err != nil {
		return wire(err)
	}
	if d.GetInstance() == c.s.before.GetInstance() {
		return fmt.Errorf("two processes have the instance %q", d.GetInstance())
	}
	return nil
}

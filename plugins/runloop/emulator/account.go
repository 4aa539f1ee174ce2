package emulator

import (
	"net/http"
	"regexp"
	"time"
)

func (s *Server) accountRoutes() {
	s.routes.on("GET /v1/accounts/me", func(http.ResponseWriter, *http.Request) (any, error) {
		return map[string]any{
			"id": "acc_emulator", "name": "Emulator", "created_at": time.UnixMilli(0).UTC().Format(time.RFC3339),
			"account_status": "ACCOUNT_STATUS_ENABLED", "tier": "ACCOUNT_TIER_PRO",
			"billing":              map[string]any{"account_billing_type": "STRIPE", "aws": nil, "stripe": nil, "stripe_customer_id": nil},
			"account_billing_type": "STRIPE", "active_subscription": nil, "external_billing_account_id": nil, "stripe_customer_id": nil,
		}, nil
	})
}

// secret is a named value that devboxes get as an environment variable. It is never shown.
type secret struct {
	id, name, value  string
	created, updated int64
}

func (c *secret) view() any {
	return map[string]any{"id": c.id, "name": c.name, "create_time_ms": c.created, "update_time_ms": c.updated}
}

// secret returns a secret by its name or id, nil if there is none. The server's lock is held.
func (s *Server) secret(name string) *secret {
	if found, ok := s.state.secrets.byID[name]; ok {
		return found
	}
	for _, c := range s.state.secrets.list() {
		if c.id == name {
			return c
		}
	}
	return nil
}

func (s *Server) secretRoutes() {
	s.routes.on("POST /v1/secrets", s.postSecret)
	s.routes.on("GET /v1/secrets", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return page(r, "secrets", s.state.secrets.list(), func(c *secret) string { return c.id }, (*secret).view)
	})
	s.routes.on("GET /v1/secrets/{id}", s.getSecret)
	s.routes.on("POST /v1/secrets/{id}", s.updateSecret)
	s.routes.on("POST /v1/secrets/{id}/delete", s.deleteSecret)
	s.routes.on("GET /v1/secrets/id/{id}", s.getSecret)
	s.routes.on("POST /v1/secrets/id/{id}/update", s.updateSecret)
	s.routes.on("POST /v1/secrets/id/{id}/delete", s.deleteSecret)
}

func (s *Server) getSecret(_ http.ResponseWriter, r *http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.findSecret(r)
	if err != nil {
		return nil, err
	}
	return c.view(), nil
}

func (s *Server) findSecret(r *http.Request) (*secret, error) {
	c := s.secret(r.PathValue("id"))
	if c == nil {
		return nil, notFound("Secret %s not found", r.PathValue("id"))
	}
	return c, nil
}

func (s *Server) postSecret(_ http.ResponseWriter, r *http.Request) (any, error) {
	body, err := decode[struct {
		Name  string
		Value *string
	}](r)
	if err != nil {
		return nil, err
	}
	if !regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`).MatchString(body.Name) {
		return nil, badRequest("Invalid secret name: %q", body.Name)
	}
	if body.Value == nil {
		return nil, badRequest("value is required")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.secrets.byID[body.Name] != nil {
		return nil, badRequest("Secret %s already exists", body.Name)
	}
	now := nowMs()
	c := &secret{id: newID("sec"), name: body.Name, value: *body.Value, created: now, updated: now}
	s.state.secrets.add(c.name, c)
	return c.view(), nil
}

func (s *Server) updateSecret(_ http.ResponseWriter, r *http.Request) (any, error) {
	body, err := decode[struct{ Value *string }](r)
	if err != nil {
		return nil, err
	}
	if body.Value == nil {
		return nil, badRequest("value is required")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.findSecret(r)
	if err != nil {
		return nil, err
	}
	c.value, c.updated = *body.Value, max(nowMs(), c.updated+1)
	return c.view(), nil
}

func (s *Server) deleteSecret(_ http.ResponseWriter, r *http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.findSecret(r)
	if err != nil {
		return nil, err
	}
	s.state.secrets.remove(c.name)
	return c.view(), nil
}

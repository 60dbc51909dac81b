package api_test

import (
	"testing"

	"github.com/tunemesh/tunemesh/api"
)

func TestASucceededStageNeverChanges(t *testing.T) {
	all := []api.StageState{api.StagePending, api.StageReady, api.StageRunning, api.StageSucceeded, api.StageFailed, api.StageCancelled, api.StageSkipped}
	for _, next := range all {
		if api.StageSucceeded.CanBecome(next) || api.StageSkipped.CanBecome(next) {
			t.Errorf("a finished stage can become %s", next)
		}
	}
	if api.StagePending.CanBecome(api.StageRunning) {
		t.Error("a stage can run before it is ready")
	}
}

func TestRoles(t *testing.T) {
	tests := []struct {
		holder, need api.Role
		allowed      bool
	}{
		{api.RoleAdmin, api.RoleViewer, true},
		{api.RoleAdmin, api.RoleUser, true},
		{api.RoleAdmin, api.RoleNode, false},
		{api.RoleUser, api.RoleAdmin, false},
		{api.RoleViewer, api.RoleUser, false},
		{api.RoleViewer, api.RoleMetrics, true},
		{api.RoleMetrics, api.RoleMetrics, true},
		{api.RoleMetrics, api.RoleViewer, false},
		{api.RoleNode, api.RoleMetrics, false},
		{api.RoleNode, api.RoleNode, true},
		{api.RoleNode, api.RoleViewer, false},
		{"", api.RoleViewer, false},
		{api.RoleAdmin, "", false},
	}
	for _, tt := range tests {
		if got := tt.holder.Allows(tt.need); got != tt.allowed {
			t.Errorf("%q holding what needs %q: %v", tt.holder, tt.need, got)
		}
	}
}

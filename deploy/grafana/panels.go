//lint:file-ignore SA1019 Grafana 10 and 11, which many run, read this schema alone; its successor needs 12

package grafana

import (
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// series is one line of a panel: a PromQL expression and how it is called.
type series struct{ expr, legend string }

// source is the variable that names the Prometheus to ask.
var source = common.DataSourceRef{Type: cog.ToPtr("prometheus"), Uid: cog.ToPtr("${datasource}")}

// Sizes in Grafana's grid, which is 24 wide.
const (
	height = 8
	wide   = 24
	half   = 12
	third  = 8
	small  = 6
)

func graph(title, help, unit string, width uint32, lines ...series) *timeseries.PanelBuilder {
	p := timeseries.NewPanelBuilder().Title(title).Description(help).Unit(unit).Datasource(source).
		Span(width).Height(height).LineWidth(2).FillOpacity(8).ShowPoints(common.VisibilityModeNever).
		Legend(common.NewVizLegendOptionsBuilder().DisplayMode(common.LegendDisplayModeList).Placement(common.LegendPlacementBottom).ShowLegend(true))
	for i, l := range lines {
		p.WithTarget(query(l, i))
	}
	return p
}

func figure(title, help, unit string, lines ...series) *stat.PanelBuilder {
	p := stat.NewPanelBuilder().Title(title).Description(help).Unit(unit).Datasource(source).Span(small).Height(4)
	for i, l := range lines {
		p.WithTarget(query(l, i))
	}
	return p
}

func query(l series, i int) *prometheus.DataqueryBuilder {
	return prometheus.NewDataqueryBuilder().Expr(l.expr).LegendFormat(l.legend).RefId(string(rune('A' + i)))
}

// board begins a dashboard with the variable that chooses the Prometheus.
func board(uid, title, help string) *dashboard.DashboardBuilder {
	return dashboard.NewDashboardBuilder(title).Uid(uid).Description(help).Tags([]string{"tunemesh"}).
		Readonly().Refresh("15s").Time("now-1h", "now").Timezone("browser").
		WithVariable(dashboard.NewDatasourceVariableBuilder("datasource").Label("Prometheus").Type("prometheus"))
}

// choice is a variable with the values of a label; several may be chosen.
func choice(name, label, of string) *dashboard.QueryVariableBuilder {
	return dashboard.NewQueryVariableBuilder(name).Label(label).Datasource(source).
		Query(dashboard.StringOrMap{String: cog.ToPtr("label_values(" + of + ")")}).
		Refresh(dashboard.VariableRefreshOnTimeRangeChanged).Multi(true).IncludeAll(true)
}

// What a dashboard of perch's may be: Grafana's own types, with the options of the kinds of panel that are used.
// `check.mjs` writes each dashboard as `const board: Board = {…}` beside a copy of this and asks the compiler.
import type { Dashboard, FieldConfigSource, Panel, RowPanel } from "@grafana/schema";
import type * as stat from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type * as lines from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";

/** JSON has no enums: the values of an enum's members stand for them. */
type Plain<T> = T extends string
  ? `${T}`
  : T extends number | boolean | null | undefined
    ? T
    : T extends readonly (infer U)[]
      ? Plain<U>[]
      : T extends object
        ? { [K in keyof T]: Plain<T[K]> }
        : T;

/** A panel of one kind; what Grafana leaves open is closed here, so that a misspelled option is an error. */
type Of<Kind extends string, Options, Field> = Omit<Panel, "type" | "options" | "fieldConfig" | "targets"> & {
  type: Kind;
  title: string;
  description: string;
  options: Options;
  fieldConfig: Omit<FieldConfigSource, "defaults"> & {
    defaults: Omit<FieldConfigSource["defaults"], "custom"> & { unit: string; custom?: Field };
  };
  targets: Query[];
};

/** A query of Grafana's Prometheus data source (its package publishes no types). */
type Query = {
  refId: string;
  datasource: { type: "prometheus"; uid: string };
  editorMode: "code" | "builder";
  expr: string;
  legendFormat: string;
  range: boolean;
  instant: boolean;
};

type Panels = Of<"stat", stat.Options, never> | Of<"timeseries", lines.Options, lines.FieldConfig> | RowPanel;

export type Board = Plain<Omit<Dashboard, "panels" | "annotations" | "templating">> & {
  panels: Plain<Panels>[];
  // Data sources add members of their own to these two.
  annotations: { list: (Plain<NonNullable<NonNullable<Dashboard["annotations"]>["list"]>[number]> & Record<string, unknown>)[] };
  templating: { list: (Plain<NonNullable<NonNullable<Dashboard["templating"]>["list"]>[number]> & { definition?: string })[] };
};

import { Moment } from "../format/Time";
import type { Cell, Fact, FactValue } from "./fields";

/** Lists longer than this stand in rows over the whole width, … */
const SHORT_LIST = 6;
/** … and longer than this are folded. */
const LONG_LIST = 40;

interface Props {
  facts: readonly Fact[];
  /** Leaves out fields that are not set. */
  setOnly?: boolean;
}

/** Fields and their values, whatever the kind. */
export function FactList({ facts, setOnly = false }: Props) {
  const shown = setOnly ? facts.filter(({ value }) => value.type !== "none") : facts;
  return (
    <dl className="facts">
      {shown.map(({ field, label, value }) => (
        <div key={field} className={isWide(value) ? "is-wide" : undefined}>
          <dt title={field}>{label}</dt>
          <dd>
            <Value value={value} />
          </dd>
        </div>
      ))}
    </dl>
  );
}

function isWide(value: FactValue): boolean {
  return value.type === "table" || (value.type === "list" && value.items.length > SHORT_LIST);
}

function Items({ items }: { items: readonly string[] }) {
  const list = (
    <ul className={items.length > SHORT_LIST ? "plain in-rows" : "plain"}>
      {items.map((item) => (
        <li key={item}>{item}</li>
      ))}
    </ul>
  );
  if (items.length <= LONG_LIST) {
    return list;
  }
  return (
    <details>
      <summary>{items.length} entries</summary>
      {list}
    </details>
  );
}

function Value({ value }: { value: FactValue }) {
  switch (value.type) {
    case "none":
      return <span className="faint">–</span>;
    case "text":
      return value.exact === value.text ? (
        value.text
      ) : (
        <span title={value.exact}>{value.text}</span>
      );
    case "time":
      return <Moment at={value.at} />;
    case "list":
      return <Items items={value.items} />;
    case "table":
      return <Rows columns={value.columns} rows={value.rows} />;
  }
}

/** A table without the columns that have no value in any row. */
function Rows({ columns, rows }: { columns: readonly string[]; rows: readonly Cell[][] }) {
  const shown = columns
    .map((label, at) => ({ label, at }))
    .filter(({ at }) => rows.some((row) => row[at]?.exact));
  return (
    <table>
      <thead>
        <tr>
          {shown.map(({ label }) => (
            <th key={label} scope="col">
              {label}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {rows.map((row) => (
          <tr key={row.map(({ exact }) => exact).join(" ")}>
            {shown.map(({ label, at }) => (
              <td key={label} className="num" title={row[at]?.exact}>
                {row[at]?.text}
              </td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

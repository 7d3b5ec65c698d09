import { Moment } from "../format/Time";
import type { Fact, FactValue } from "./fields";

/** Fields and their values, whatever the kind. */
export function FactList({ facts }: { facts: readonly Fact[] }) {
  return (
    <dl className="facts">
      {facts.map(({ field, label, value }) => (
        <div key={field} className={value.type === "table" ? "is-wide" : undefined}>
          <dt title={field}>{label}</dt>
          <dd>
            <Value value={value} />
          </dd>
        </div>
      ))}
    </dl>
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
      return (
        <ul className="plain">
          {value.items.map((item) => (
            <li key={item}>{item}</li>
          ))}
        </ul>
      );
    case "table":
      return (
        <table>
          <thead>
            <tr>
              {value.columns.map((column) => (
                <th key={column} scope="col">
                  {column}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {value.rows.map((row) => (
              <tr key={row.map(({ exact }) => exact).join(" ")}>
                {row.map((cell, column) => (
                  <td key={value.columns[column]} className="num" title={cell.exact}>
                    {cell.text}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      );
  }
}

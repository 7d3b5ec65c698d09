import { Link, useLocation } from "react-router";
import { Page } from "./Page";

export function NotFoundPage() {
  const { pathname } = useLocation();
  return (
    <Page title="Not found">
      <p>
        There is no page at <code>{pathname}</code>. <Link to="/">Go to the overview</Link>
      </p>
    </Page>
  );
}

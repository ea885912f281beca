// Cross-field rules about a service whose clients' region chooses the pool: whether each region can have
// clients, whether any client has two, and what does not go with it. Each rule is a function of the draft.
// Must never read a database.

import type { Draft, DraftService } from "./draft.ts";
import { checkPrefix, readPrefix } from "./formats.ts";
import { valueAt } from "./explain.ts";
import { pathText, quoted } from "./problem.ts";
import type { Finding, Path } from "./problem.ts";
import { error, repeats, warning } from "./rules_names.ts";
import type { Rule } from "./rules_names.ts";

type Fields = NonNullable<DraftService["fields"]["geo"]>;

function* geos(draft: Draft): Iterable<{ readonly service: DraftService; readonly path: Path; readonly geo: Fields }> {
  for (const service of draft.services) {
    const { geo } = service.fields;
    if (geo !== undefined) yield { service, path: [...service.path, "geo"], geo };
  }
}

function* distinctRegions(draft: Draft): Iterable<Finding> {
  for (const { path, geo } of geos(draft)) {
    const named = geo.regions.map(({ name }, index) => ({ name, path: [...path, "regions", index, "name"] }));
    for (const [region, before] of repeats(named, ({ name }) => name))
      yield error(region.path, `the name ${quoted(region.name)} is taken by ${pathText(before.path.slice(0, -1))}`, "give it another name");
  }
}

function* emptyRegions(draft: Draft): Iterable<Finding> {
  for (const { path, geo } of geos(draft)) {
    for (const [index, { countries, continents, networks }] of geo.regions.entries()) {
      if (countries.length + continents.length + networks.length > 0) continue;
      yield error([...path, "regions", index], "nothing says whose region it is", "give it countries, continents or networks");
    }
  }
}

/** The first region has the client, so that a second one with the same code never would. */
function* repeatedPlaces(draft: Draft): Iterable<Finding> {
  for (const { path, geo } of geos(draft)) {
    for (const list of ["countries", "continents", "networks"] as const) {
      const places = geo.regions.flatMap((region, index) => region[list].map((text, at) =>
        ({ text, index, path: [...path, "regions", index, list, at] })));
      for (const [place, before] of repeats(places, ({ text }) => text)) {
        if (place.index === before.index) yield warning(place.path, `${place.text} is in the list already`);
        else yield error(place.path, `${place.text} is in ${pathText([...path, "regions", before.index])} already`, "remove one of them");
      }
    }
  }
}

function* databases(draft: Draft): Iterable<Finding> {
  for (const { path, geo } of geos(draft)) {
    const asks = geo.regions.findIndex(({ countries, continents }) => countries.length + continents.length > 0);
    if (asks >= 0 && geo.database === null) {
      yield error([...path, "regions", asks], "there is no database to look countries and continents up in",
        "say database: /path/GeoLite2-Country.mmdb, or use networks");
    }
    if (asks < 0 && geo.database !== null)
      yield warning([...path, "database"], "no region asks for countries or continents", "it is read for nothing: remove it");
  }
}

function* foreignNetworks(draft: Draft): Iterable<Finding> {
  for (const { service, path, geo } of geos(draft)) {
    const family = service.network?.address.family;
    for (const [index, { networks }] of geo.regions.entries()) {
      for (const [at, text] of networks.entries()) {
        if (family === undefined || checkPrefix(text) !== null) continue;
        const other = readPrefix(text).address.family;
        if (other === family) continue;
        yield warning([...path, "regions", index, "networks", at], `an IPv${other} prefix matches no client of an IPv${family} service`);
      }
    }
  }
}

/** Keys that say where a flow goes in a way that a region's pool would contradict. */
function* contradictions(draft: Draft): Iterable<Finding> {
  for (const { service, path } of geos(draft)) {
    if (service.fields.split !== undefined) {
      yield error(path, "a service is split over pools or has pools for regions, not both",
        "remove one of them; for a canary of one region, put its backends into that region's pool with a small weight");
    }
    const quicLb = valueAt(draft.root, [...service.path, "quicLb"]);
    if (quicLb === undefined || quicLb === null) continue;
    yield error(path, "connection IDs name backends of one pool, and a client that moves would come to another region's",
      "remove quicLb or geo");
  }
}

export const GEO_RULES: readonly Rule[] = [
  distinctRegions, emptyRegions, repeatedPlaces, databases, foreignNetworks, contradictions,
];

// The keys of a service whose clients' region chooses the pool.

import * as z from "zod";
import { REGIONS_MAX } from "../model/regions.ts";
import { checkPrefix } from "./formats.ts";
import { checkContinent, checkCountry, CONTINENT_PATTERN, COUNTRY_PATTERN } from "./formats_geo.ts";
import { name, path, text } from "./schema_parts.ts";

const regionSchema = z.strictObject({
  name: name("Unique in its service; status, metrics and `ring` call it SERVICE@REGION."),
  countries: z.array(text(checkCountry, { title: "a country code", pattern: COUNTRY_PATTERN, examples: ["DE"] })).default([]).meta({
    title: "a list of country codes", description: "Countries by ISO 3166-1 alpha-2, such as [DE, FR].",
  }),
  continents: z.array(text(checkContinent, { title: "a continent code", pattern: CONTINENT_PATTERN, examples: ["EU"] })).default([]).meta({
    title: "a list of continent codes", description: "Continents as MaxMind has them: AF, AN, AS, EU, NA, OC, SA.",
  }),
  networks: z.array(text(checkPrefix, { title: "a prefix", examples: ["10.0.0.0/8"] })).default([]).meta({
    title: "a list of prefixes", description: "Clients that are of this region whatever the database says, such as an operator's own "
      + "networks. Of two prefixes that hold a client, the longer decides.",
  }),
  pool: name("Name of the pool that its clients go to."),
}).meta({ id: "Region", title: "a region" });

export const geoSchema = z.strictObject({
  database: path("A database in MaxMind's format with countries, such as GeoLite2-Country.mmdb. Read at the start and with each new "
    + "config or `reload`; null: regions are networks alone.").nullable().default(null),
  regions: z.array(regionSchema).min(1).max(REGIONS_MAX).meta({
    title: "a list of regions", description: "The first that a client's country or continent matches has it.",
  }),
}).meta({
  title: "a database and regions", description: "Sends clients to pools by the region that they are in; `pool` is for all others, and for "
    + "those that the database does not know ([docs/geo.md](geo.md)).",
});

export type RawGeo = z.output<typeof geoSchema>;
